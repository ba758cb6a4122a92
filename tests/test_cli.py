"""The command line: exit codes, one line for each fault, the log of events, and what a kill leaves."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from fake_chain import enter_work_folder, spectramind, start, write_stage
from typer.testing import Result

import spectramind_nb
from spectramind_nb.cli import app as cli
from spectramind_nb.cli.calls import Call, recorded
from spectramind_nb.core.contracts import Submission, write_submission
from spectramind_nb.pipeline import prediction
from spectramind_nb.pipeline.config import compose
from spectramind_nb.pipeline.prediction import Prediction
from spectramind_nb.pipeline.provenance import event_faults, read_events, write_summary
from spectramind_nb.simulator.worlds import DEFAULT_WORLD, NAMED_WORLDS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with one notebook and a raw folder."""
    monkeypatch.setenv("SPECTRAMIND_DEBUG", "")  # --debug sets it: put back afterwards
    return enter_work_folder(tmp_path, monkeypatch)


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **functions: object) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(functions)
    monkeypatch.setitem(sys.modules, f"spectramind_nb.{name}", module)


def one_line(result: Result, code: int = 2) -> str:
    """The only line on stderr of a call that failed."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert (
        lines[0].startswith("error: ")
        and all(line.startswith("  ") for line in lines[1:])
        and "Traceback" not in result.output
    )
    return lines[0]


def test_the_version_comes_at_once_and_loads_nothing() -> None:
    heavy = ("numpy", "pandas", "hydra", "papermill", "rich", "torch")
    code = f"import sys; from spectramind_nb.cli import app; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
    assert spectramind("--version").output == f"spectramind {spectramind_nb.__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        *(
            "run",
            "extract",
            "simulate",
            "simulate spectra",
            "predict",
            "fit",
            "retrieve",
            "inject",
            "score",
            "validate",
            "audit",
        ),
        *("selftest", "bench", "reproduce", "check-artifacts", "estimate-score", "ablate", "restamp", "export"),
        *("worlds list", "worlds show", "worlds draw"),
    ],
)
def test_each_command_helps_with_an_example(command: str) -> None:
    result = spectramind(*command.split(), "--help")
    assert result.exit_code == 0 and f"Example: spectramind {command}" in result.output
    assert "Exit codes" in spectramind("--help").output


EARLIER = {
    "calibrate": "extract",
    "bank": "simulate spectra",
    "expect": "estimate-score",
    "acceptance": "check-artifacts",
}


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ("calibrate", ("--raw", "nowhere", "--out", "runs/a")),
        ("bank", ("--out", ".")),
        ("expect", ("runs/none",)),
        ("acceptance", ("--run", "runs/none")),
    ],
)
def test_an_earlier_name_names_the_new_command_and_does_the_same(old: str, words: tuple[str, ...], home: Path) -> None:
    new = EARLIER[old]
    now, then = spectramind(*new.split(), *words), spectramind(old, *words)
    first, *rest = then.stderr.splitlines()
    assert first == f"spectramind {old} is now spectramind {new}"
    assert (then.exit_code, then.stdout, rest) == (now.exit_code, now.stdout, now.stderr.splitlines())
    assert rest and rest[0].startswith("error: ")
    events = [event for log in home.glob("**/events.jsonl") for event in read_events(log)]
    assert [event["cmd"] for event in events] == [new.split()[0]] * 2 and not any(map(event_faults, events))
    options = spectramind(old, "--help").stdout.split("Options:")[1]
    assert options.strip() in spectramind(*new.split(), "--help").stdout


def test_help_lists_new_names_alone_and_the_command_below_simulate() -> None:
    listed = {line.split()[0] for line in spectramind("--help").output.split("Commands:")[1].splitlines() if line}
    assert not listed & {*EARLIER} and {"extract", "simulate", "estimate-score", "check-artifacts"} <= listed
    said = spectramind("simulate", "--help").output
    assert "--test-planets" in said and "  spectra  Simulate spectra" in said


def test_simulate_hands_over_what_it_was_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    fake_module(monkeypatch, "simulator.data_sets", simulate_dataset=lambda *words, world: seen.append((*words, world)))
    fake_module(monkeypatch, "simulator.bank", make_bank=lambda *words, world: seen.append((*words, world)))
    for words, world in (((), DEFAULT_WORLD), (("--world", "full-rank"), NAMED_WORLDS["full-rank"])):
        assert spectramind("simulate", "--out", "o", "--planets", "3", "--seed", "5", *words).exit_code == 0
        given = seen.pop()
        assert given[:6] == (Path("o"), 3, 16, 5, "demo", False) and given[-1] == world
    for command in (("simulate", "spectra"), ("bank",)):
        done = spectramind(*command, "--out", "b.npz", "--spectra", "9", "--seed", "5", "--quick")
        assert done.exit_code == 0 and "spectra           b.npz" in done.stdout
        words = seen.pop()
        assert words[:6] == (Path("b.npz"), 9, 5, False, None, 2) and words[7] and not seen
    events = read_events(home / "runs/events.jsonl")
    assert [event["cmd"] for event in events] == ["simulate"] * 4
    assert [event["args"].get("what") for event in events] == [None, None, "spectra", "spectra"]


def test_simulate_needs_a_folder_and_takes_no_options_for_its_command() -> None:
    for words, said in (
        ((), "Missing option '--out'"),
        (("--planets", "3"), "Missing option '--out'"),
        (("--seed", "3", "spectra", "--out", "b.npz"), "options of spectra stand behind it"),
        (("spectrum",), "No such command 'spectrum'"),
        (("spectra",), "Missing option '--out'"),
    ):
        result = spectramind("simulate", *words)
        assert result.exit_code == 2 and said in result.stderr, result.output
    assert not Path("runs").exists()


def test_a_run_keeps_its_profile(home: Path) -> None:
    for profile, expected in (("laptop", "laptop"), ("", "laptop"), ("example", "example")):
        words = ["--profile", profile] if profile else []
        assert spectramind("run", "--raw", "mine", *words).exit_code == 0
        assert f"profile: {expected}\n" in (home / "runs/mine/config.yaml").read_text()


def test_a_run_ends_with_table_and_paths_and_leaves_an_event(home: Path) -> None:
    row = "{'predictor': 'transit', 'planets': 'test', 'count': 2, 'score': 0.5, 'fgs1_ppm': None}"
    report = f"report = {{'rows': [{row}], 'seconds_per_planet': 0.1, 'submission': 'submission.csv'}}"
    write = "import json\n(Path(run_dir) / '09_submission/artifacts/report.json').write_text(json.dumps(report))"
    write_stage(home / "nbs", "09_submission", report, write)
    result = spectramind("run", "--raw", "mine", "--planets", "7,8", "features.folds=3", "+training.λ_factors=0.2")
    assert result.exit_code == 0, result.output
    paths = ("runs/mine/09_submission/artifacts/submission.csv", "runs/mine/01_features/notebook.ipynb")
    for words in ("transit    test", "0.500", "–", "wall time", "peak memory", *paths):
        assert words in result.stdout
    saved = (home / "runs/mine/config.yaml").read_text()
    assert "λ_factors: 0.2" in saved and "folds: 3" in saved
    (event,) = read_events(home / "runs/events.jsonl")
    assert not event_faults(event) and (event["cmd"], event["run_id"], event["status"], event["seed"]) == (
        "run",
        "mine",
        "ok",
        1337,
    )
    assert event["cfg_hash"] == json.loads((home / "runs/mine/run_hash_summary_v50.json").read_text())["cfg_hash"]
    assert event["artifacts"] == ["runs/mine/01_features", "runs/mine/09_submission"]
    assert "- 20" in (home / "runs/v50_debug_log.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "feature.folds=3"), "feature.folds: unknown key. Fix: did you mean 'features.folds'"),
        (("run", "loss.λ_smooth=3"), "did you mean 'loss.λ_sm'"),
        (("run", "--raw", "nowhere"), "nowhere: folder: is missing"),
        (("run", "--raw", "mine", "--planets", "7,x"), "'x' is no planet id"),
        (("run", "--raw", "mine", "--planets", "9"), "9 is in neither train/ nor test/"),
        (("run", "--profile", "dem"), "did you mean 'demo'"),
        (("run", "--raw", "mine", "--from", "05"), "known are 01_features"),
        (("run", "--raw", "mine", "--run-dir", "nbs/01_features.ipynb/x"), "can't be written"),
        (("predict", "--run", "runs/no"), "runs/no: folder: is missing. Fix: spectramind run makes one"),
        (("predict", "--raw", "nowhere", "--run", "mine", "--out-csv", "a.csv"), "nowhere: folder: is missing"),
        (("predict", "--run", "mine"), "mine/raw: folder: is missing. Fix: --raw"),
        (("simulate", "--out", "out", "--frames", "huge"), "'huge' is unknown"),
        (("simulate", "--out", "out", "--world", "noizy"), "did you mean noisy?"),
        (("simulate", "spectra", "--out", "out.npz", "--world", "none.yaml"), "none.yaml: file: is missing"),
        (("worlds", "show", "noizy"), "did you mean noisy?"),
        (("worlds", "draw", "--out", "mine.json"), "name it mine.yaml"),
        (("simulate", "spectra", "--out", "."), "exists. Fix: choose another file"),
        (("simulate", "spectra", "--out", "bank.npz", "--opacities", "."), "has no k-table of CH4, CO, CO2, H2O"),
        (("fit",), "what to fit isn't clear. Fix: give --light-curves, or --run and --planet"),
        (("fit", "--light-curves", "a.ecsv", "--run", "runs/a", "--planet", "7"), "what to fit isn't clear"),
        (("fit", "--run", "runs/a", "--planet", "7", "--sma", "9"), "star values can't change a finished fit"),
        (("fit", "--run", "runs/a"), "what to fit isn't clear"),
        (("fit", "--run", "mine", "--planet", "7"), "planet 7: has no fit there. Fix: run the chain up to"),
        (("estimate-score", "runs/none"), "runs/none: folder: is missing. Fix: spectramind run makes one"),
        (("fit", "--light-curves", "nowhere.ecsv"), "nowhere.ecsv: file: is missing"),
        (
            ("retrieve", "--run", "mine", "--planet", "7", "--weights", "no.safetensors"),
            "no.safetensors: file: is missing",
        ),
        (("inject", "--light-curves", "nowhere.ecsv"), "nowhere.ecsv: file: is missing"),
        (("inject", "--light-curves", "a.ecsv", "--depth-ppm", "0.01"), "0.01 is no depth to inject"),
        (("validate", "nowhere.csv"), "nowhere.csv: file: is missing"),
        (("validate", "mine/adc_info.csv"), "sigma_1: is a column that is missing"),
    ],
)
def test_what_a_user_can_mend_is_one_line(words: tuple[str, ...], said: str) -> None:
    line = one_line(spectramind(*words))
    assert said in line and "Fix: " in line
    assert not list(Path().glob("runs/*/*/notebook.ipynb")) and not Path("out").exists()


def interrupted() -> Iterator[None]:
    raise KeyboardInterrupt
    yield


ENDS: dict[int, Callable[[Call], object]] = {
    0: lambda call: None,
    1: lambda call: 1 / 0,
    2: lambda call: Path("nowhere.json").read_text(),
    3: lambda call: call.__setattr__("failed", {7: "is dark"}),
    4: lambda call: call.__setattr__("differs", "a.csv"),
    130: lambda call: next(interrupted()),
}


@pytest.mark.parametrize("code", ENDS)
def test_each_exit_code_of_the_help_is_reached(code: int, home: Path) -> None:
    documented = spectramind("--help").output.split("Exit codes:")[1].split(";")
    assert {int(words.split()[0]) for words in documented} == {*ENDS}
    with pytest.raises(typer.Exit) if code else nullcontext(typer.Exit(0)) as ended, recorded("score") as call:
        ENDS[code](call)
    assert (ended.value.exit_code if isinstance(ended, pytest.ExceptionInfo) else ended.exit_code) == code
    status = {0: "ok", 3: "warn", 4: "warn"}.get(code, "fail")
    assert [event["status"] for event in read_events(home / "runs/events.jsonl")] == [status]


@pytest.mark.slow
def test_the_shell_completes_commands_and_options(home: Path) -> None:
    def said(*words: str, **variables: str) -> str:
        with start(home / "nbs", *words, cwd=home, env={**os.environ, **variables}) as process:
            return process.communicate(timeout=30)[0]

    asked = {"_SPECTRAMIND_COMPLETE": "complete_bash", "COMP_WORDS": "spectramind pre", "COMP_CWORD": "1"}
    assert said(**asked).split() == ["predict"]
    assert said(**{**asked, "COMP_WORDS": "spectramind run --debug --prof", "COMP_CWORD": "3"}).split() == ["--profile"]
    no_shell = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "_SPECTRAMIND_COMPLETE=complete_bash" in said("--debug", "--show-completion", "bash", **no_shell)
    assert not (home / "runs").exists()


def test_usage_errors_are_typers_own() -> None:
    assert spectramind("run", "--wrong").exit_code == 2
    assert spectramind("run", "--workers", "0").exit_code == 2
    too_much = spectramind("calibrate-corel", "--run", "mine", "--alpha", "3")
    assert too_much.exit_code == 2 and "Invalid value for '--alpha'" in too_much.stderr
    assert spectramind("validate").exit_code == 2


def test_a_fault_of_the_user_inside_a_stage_is_one_line_and_how_to_go_on(home: Path) -> None:
    fault = "raise ContractError('a.csv', 'Rs', 'is NaN', 'mend it')"
    write_stage(home / "nbs", "01_features", "from spectramind_nb.core.contracts import ContractError", fault)
    result = spectramind("run", "--raw", "mine", "--to", "features", "--force", "+training.λ_factors=0.2")
    assert one_line(result) == "error: a.csv: Rs: is NaN. Fix: mend it"
    assert (
        "stage 01_features, cell [5] `raise ContractError" in result.stderr
        and "runs/mine/01_features/notebook.ipynb" in result.stderr
    )
    assert (
        "to go on: spectramind run --run-dir runs/mine --raw mine --to features '+training.λ_factors=0.2'"
        in result.stderr
    )


def test_what_nobody_foresaw_is_one_line_and_a_traceback_in_the_log(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stage(home / "nbs", "01_features", "1 / 0")
    result = spectramind("run", "--raw", "mine")
    assert one_line(result, code=1) == "error: ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in (home / "runs/v50_debug_log.md").read_text()
    assert read_events(home / "runs/events.jsonl")[-1]["status"] == "fail"

    fake_module(monkeypatch, "core.metric", score_files=lambda *files: {}["key"])
    result = spectramind("score", "--submission", "a.csv", "--truth", "b.csv")
    assert one_line(result, code=1) == "error: KeyError: 'key'" and "v50_debug_log.md" in result.stderr
    assert "Traceback" in spectramind("--debug", "score", "--submission", "a.csv", "--truth", "b.csv").stderr


def test_a_full_disk_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(os, "replace", full)
    assert "No space left on device" in one_line(spectramind("run", "--raw", "mine"))
    assert not (home / "runs/mine/01_features/manifest.json").exists()


def test_a_log_that_cannot_be_written_is_no_reason_to_fail(home: Path) -> None:
    (home / "runs").write_text("a regular file")
    write_submission(home / "s.csv", Submission(np.array([7, 8]), np.full((2, 283), 0.01), np.full((2, 283), 1e-4)))
    result = spectramind("validate", "s.csv")
    assert result.exit_code == 0 and result.stdout == "OK s.csv: 2 planets, 283 bins, median sigma 100 ppm\n"
    assert (home / "runs").read_text() == "a regular file"


def test_validate_says_ok_or_which_planet(home: Path) -> None:
    write_submission(home / "s.csv", Submission(np.array([7, 8]), np.full((2, 283), 0.01), np.full((2, 283), 1e-4)))
    assert spectramind("validate", "s.csv").stdout == "OK s.csv: 2 planets, 283 bins, median sigma 100 ppm\n"
    write_submission(home / "s.csv", Submission(np.array([7, 8]), np.full((2, 283), 0.01), np.full((2, 283), 0.01)))
    assert "warning: the typical error bar is 100% of the depth" in spectramind("validate", "s.csv").stdout
    (home / "wide.csv").write_text((home / "s.csv").read_text(), encoding="utf-16")
    assert "warning: the file is UTF-16 text: submit plain text in UTF-8" in spectramind("validate", "wide.csv").stdout
    stars = "planet_id,Rs,Ms,Ts,Mp,e,P,sma,i\n7,1,1,5000,1,0,3,9,88\n8,1,1,5000,1,0,3,9,88\n"
    (home / "mine/test_star_info.csv").write_text(stars)
    write_submission(home / "s.csv", Submission(np.array([7, 9]), np.full((2, 283), 0.01), np.full((2, 283), 1e-4)))
    assert "planet 8 is missing or unknown" in one_line(spectramind("validate", "s.csv", "--raw", "mine"))


def test_validate_compares_a_submission_with_a_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FGS1 put last is refused, error bars ten times too wide are a warning, the run's own submission passes."""
    rng = np.random.default_rng(3)
    mu = (
        0.01 + 1e-3 * rng.normal(size=(6, 1)) + 4e-4 * np.sin(np.linspace(0, 9, 283)) + 1e-4 * rng.normal(size=(6, 283))
    )
    known = Submission(np.arange(7, 13), mu, np.full(mu.shape, 3e-5))
    (home / "runs/mine/09_submission/artifacts").mkdir(parents=True)
    write_submission(home / "runs/mine/09_submission/artifacts/submission.csv", known)
    parts = ({"neural": known.mu}, {"neural": known.sigma}, {"neural": np.zeros(6)}, np.zeros(6, bool))
    record = Prediction(known.planet_id, "neural", *parts), dict[str, str]()
    monkeypatch.setattr(prediction, "read_prediction", lambda path: record)
    write_submission(home / "s.csv", known)
    same = spectramind("validate", "s.csv", "--run", "runs/mine")
    assert same.exit_code == 0 and "warning" not in same.stdout, same.output
    write_submission(home / "s.csv", replace(known, sigma=10 * known.sigma))
    assert "warning: the typical error bar" in spectramind("validate", "s.csv", "--run", "runs/mine").stdout
    by_name = np.argsort([str(k) for k in range(283)])
    write_submission(home / "s.csv", replace(known, mu=mu[:, by_name]))
    assert "check the order of bins" in spectramind("validate", "s.csv", "--run", "runs/mine").stdout
    write_submission(home / "s.csv", replace(known, mu=np.roll(mu, -1, axis=1)))
    last = spectramind("validate", "s.csv", "--run", "runs/mine")
    assert last.exit_code == 2 and "FGS1" in one_line(last)


def test_audit_says_which_planet_and_names_its_files(home: Path) -> None:
    mu = np.full((2, 283), 0.01)
    mu[1, 100] += 0.001
    write_submission(home / "s.csv", Submission(np.array([7, 8]), mu, np.full((2, 283), 1e-5)))
    (home / "runs").mkdir(exist_ok=True)  # where there are runs, a call leaves its event
    (home / "stars.csv").write_text("planet_id,Ts,sma\n8,6000,9\n")
    result = spectramind("audit", "--submission", "s.csv", "--stars", "stars.csv", "--out", "new")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    assert lines["smoothness"] == ["2", "1", "8"] and lines["seam"] == ["2", "0", "–"]
    for word in ("records", "influence"):
        assert (home / lines[word][0]).is_file() and lines[word][0].startswith("new/")
    assert read_events(home / "runs/events.jsonl")[-1]["cmd"] == "audit" and lines["quantile_monotonicity"][0] == "0"
    np.savez(home / "q.npz", planet_id=[8, 7], quantiles=np.full((2, 283, 3), 0.01) - [[[0, 0, 0]], [[0, 1e-5, 0]]])
    found = spectramind("audit", "--submission", "s.csv", "--quantiles", "q.npz").stdout
    assert next(line for line in found.splitlines() if "quantile" in line).split()[1:] == ["2", "1", "7"]
    assert "s.csv: file" in one_line(spectramind("audit", "--submission", "s.csv", "--quantiles", "s.csv"))
    (home / "stars.csv").write_text("planet_id,Ts\n8,6000\n")
    assert "sma" in one_line(spectramind("audit", "--submission", "s.csv", "--stars", "stars.csv"))
    assert "is missing" in one_line(spectramind("audit", "--submission", "none.csv"))


@pytest.mark.slow
def test_native_windows_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match=r"^error: spectramind does not run on native Windows\. Fix: use WSL"):
        cli.main()


def test_predict_score_and_simulate_hand_over_what_they_were_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    fakes = {"predict": lambda *words, **named: seen.append((words, named)) or {}, "runtime_line": lambda out: "1 h"}
    fake_module(monkeypatch, "pipeline.predict", **fakes)
    monkeypatch.setattr("spectramind_nb.cli.predict._learned_lines", lambda *words: [])
    monkeypatch.setattr("spectramind_nb.pipeline.prediction.refuse_loss", lambda *words: None)
    fake_module(monkeypatch, "core.metric", score_files=lambda *files: {"score": 0.5, "files": len(files)})
    simulate = lambda out, *words, world: seen.append((out, words[:6]))  # noqa: E731
    fake_module(monkeypatch, "simulator.data_sets", simulate_dataset=simulate)
    (home / "runs/a").mkdir(parents=True)
    given = ("predict", "--raw", "mine", "--run", "runs/a", "--out-csv", "o.csv", "--planets", "7")
    assert spectramind(*given).exit_code == 0
    words, named = seen.pop()
    assert words[:7] == (Path("mine"), Path("runs/a"), Path("o.csv"), [7], 2, "challenge", 64)
    assert words[7:10] == (None, None, False) and callable(words[10]) and not named
    spectramind("predict", "--raw", "mine", "--run", "runs/a", "-c", "overrides/kaggle_fast.yaml")
    assert seen.pop()[0][6] == 2048
    settings = "profile: demo\ndata: {raw: mine}\n"
    (home / "runs/a/config.yaml").write_text(f"{settings}submission: {{spelling: specification, batch_predict: 7}}")
    (home / "own.yaml").write_text("submission: {batch_predict: 64}")
    for layer, batch in (("overrides/kaggle_fast.yaml", 2048), ("own.yaml", 64)):
        spectramind("predict", "--raw", "mine", "--run", "runs/a", "-c", layer)
        assert seen.pop()[0][5:7] == ("specification", batch)
    write_summary(home / "runs/a", "0123abcd", 5, [])
    (home / "runs/a/config.yaml").write_text(settings)
    monkeypatch.setattr("spectramind_nb.pipeline.stages.rerun_settings", lambda run, settings: (compose(), ""))
    assert spectramind("predict", "--run", "runs/a").exit_code == 0
    assert seen.pop()[0][:3] == (home / "mine", Path("runs/a"), Path("outputs/submission.csv"))
    assert json.loads(spectramind("score", "--submission", "a.csv", "--truth", "b.csv").stdout) == {
        "score": 0.5,
        "files": 3,
    }
    assert (
        spectramind("simulate", "--out", "o", "--planets", "3", "--test-planets", "2", "--seed", "5", "--ood").exit_code
        == 0
    )
    assert seen.pop() == (Path("o"), (3, 2, 5, "demo", True, 2))
    events = read_events(home / "runs/events.jsonl")
    assert [event["cmd"] for event in events] == ["predict"] * 5 + ["score", "simulate"]
    known = [(event["run_id"], event["cfg_hash"], event["seed"]) for event in events[3:5]]
    assert known == [("a", "00000000", 0), ("a", "0123abcd", 5)]


def test_the_page_opens_where_the_configuration_or_the_call_wants_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    fake_module(monkeypatch, "dashboard.page", write_page=lambda run, path, planets, tell: path.write_text("page"))
    for wanted in ("false", "true"):
        diag = f"diag: {{html: {{open: {wanted}, out: own.html}}}}"
        (home / "mine/config.yaml").write_text(f"profile: demo\ndata: {{raw: mine}}\n{diag}")
        for words in ((), ("--open",), ("--no-open",)):
            assert spectramind("diagnose", "dashboard", "--run", "mine", *words).exit_code == 0
    assert opened == 3 * [(home / "own.html").as_uri()]  # --open, the configuration, --open


def test_what_goes_on_names_every_option(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*words: Any) -> None:
        raise KeyboardInterrupt

    fake_module(monkeypatch, "pipeline.predict", predict=cut, predictor_words=cut, runtime_line=cut)
    fake_module(monkeypatch, "pipeline.sigma_calibration", calibration_lines=cut)
    fake_module(monkeypatch, "chapters.features", estimate_work=cut)
    layer = ("-c", "overrides/kaggle_fast")
    for words in (
        ("predict", "--run", "mine", "--raw", "mine", "--workers", "3", "--keep", *layer),
        ("extract", "--raw", "mine", "--out", "runs/a", "--profile", "laptop", "--workers", "3", *layer),
    ):
        said = spectramind(*words)
        assert said.exit_code == 130
        resume = said.stderr.split("to go on: spectramind ")[1].split()
        assert {*words} <= {*resume}, resume


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]


WATCHFUL = """
import asyncio
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

async def look_often(self):
    while True:
        await asyncio.sleep(0.01)
        try:
            await self._async_check_alive()
        except DeadKernelError:
            self.task_poll_for_reply.cancel()
            return

NotebookClient._async_poll_kernel_alive = look_often  # so it always sees the kernel end, not one time in ten
"""
DROPPED = """
import os, time
from spectramind_nb.pipeline import chain

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)  # KeyboardInterrupt is raised here, and Python drops it

def run_chain(*args, **options):
    Late()
    time.sleep(60)

chain.run_chain = run_chain
"""


@pytest.mark.parametrize(("blow", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
@pytest.mark.slow
def test_the_same_command_resumes_a_run_that_was_cut(home: Path, blow: signal.Signals, code: int) -> None:
    pid = "import os, time\n(Path(run_dir) / 'pid').write_text(str(os.getpid()))"
    wait = "time.sleep(0 if (Path(run_dir) / 'go').exists() else 60)"
    write_stage(home / "nbs", "06_training", pid, wait)
    words = ("run", "--raw", "mine")
    with start(home / "nbs", *words, before=WATCHFUL, start_new_session=True, cwd=home) as process:
        wait_for(home / "runs/mine/pid", process)
        assert "is running there" in one_line(spectramind(*words))
        os.killpg(process.pid, blow)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    if blow == signal.SIGINT:
        line, resume = err.splitlines()
        assert line == "interrupted: run the same command to resume" and "--run-dir runs/mine" in resume
    assert (home / "runs/mine/01_features/manifest.json").exists() and not (
        home / "runs/mine/06_training/manifest.json"
    ).exists()

    kernel = int((home / "runs/mine/pid").read_text())
    (home / "runs/mine/go").touch()
    result = spectramind(*words)
    assert "skip 01_features: unchanged" in result.stdout and "run  06_training: not finished yet" in result.stdout
    deadline = time.monotonic() + 10
    while alive(kernel) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(kernel)


def test_an_interrupt_that_python_drops_is_received(home: Path) -> None:
    with start(home / "nbs", "run", "--raw", "mine", before=DROPPED, cwd=home) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and err.startswith("interrupted: "), err


PLAN = """import json
from pathlib import Path
plan = {{"planets": {{"train": [7], "test": {test}}}, "options": {{}}}}
(Path(run_dir) / "00_calibration/artifacts/plan.json").write_text(json.dumps(plan))"""


@pytest.mark.slow
@pytest.mark.parametrize(("test", "made"), [([8], "09_submission"), ([], "08_diagnostics")])
def test_prepare_makes_whatever_the_dashboard_shows(home: Path, test: list[int], made: str) -> None:
    """A run that was stopped goes on to its submission; without test planets it has none."""
    (home / "nbs/01_features.ipynb").unlink()
    write_stage(home / "nbs", "00_calibration", PLAN.format(test=test))
    for name in ("08_diagnostics", "09_submission"):
        write_stage(home / "nbs", name)
    assert spectramind("run", "--raw", "mine", "--to", "00").exit_code == 0
    done = spectramind("diagnose", "prepare", "--run", "runs/mine")
    assert done.exit_code == 0, done.output
    last = sorted(path.parent.name for path in (home / "runs/mine").glob("*/manifest.json"))[-1]
    assert last == made
