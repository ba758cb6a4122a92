"""Every broken file is met by one line that says which file, which field, what is wrong and how to mend it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spectramind_nb.chapters.calibration import Keep, calibrate_run
from spectramind_nb.core.contracts import (
    SCHEMAS,
    SUBMISSION_COLUMNS,
    Submission,
    check_planets,
    load_arrays,
    read_npz,
    read_submission,
    write_npz,
    write_submission,
)
from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.files import atomic_path
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.detector.corrections import Options
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.pipeline.planets import Workers, read_failures
from spectramind_nb.pipeline.selection import select_planets

# --- Raw data ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """A copy of the tiny data set, to be spoiled: every file is a link to the original until it is replaced."""

    root: Path
    planet: int

    def path(self, name: str) -> Path:
        """A file of the planet or of the whole data set."""
        inside = self.root / "train" / str(self.planet) / name
        return inside if inside.exists() else self.root / name

    def replace(self, name: str, content: bytes) -> None:
        """Put other bytes in a file's place, without touching the original it links to."""
        path = self.path(name)
        path.unlink()
        path.write_bytes(content)

    def table(self, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        """Change a CSV or parquet table."""
        path = self.path(name)
        read, write = (
            (pd.read_csv, pd.DataFrame.to_csv) if path.suffix == ".csv" else (pd.read_parquet, pd.DataFrame.to_parquet)
        )
        changed = change(read(path))
        path.unlink()
        write(changed, path, index=False)

    def signal(self, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
        """Change a signal file."""
        path = self.path(name)
        changed = change(pq.read_table(path))
        path.unlink()
        pq.write_table(changed, path)


@pytest.fixture
def broken(tiny: RawFolder, tmp_path: Path) -> Broken:
    """One training planet, whole as yet."""
    (planet,) = tiny.planets_on_disk("train")
    root = tmp_path / "raw"
    shutil.copytree(tiny.root / "train", root / "train", copy_function=os.link)
    for path in tiny.root.iterdir():
        if path.is_file() and not path.name.startswith("test"):
            os.link(path, root / path.name)
    return Broken(root, planet)


def test_a_whole_data_set_passes(broken: Broken, tmp_path: Path) -> None:
    rows = calibrate_run(tmp_path / "run", broken.root, [], Options(), Keep(0), Workers(2))
    assert [(row["planet"], row["channel"], row["pairs"]) for row in rows] == [
        (broken.planet, "FGS1", 500),
        (broken.planet, "AIRS-CH0", 125),
    ]


def cell(row: int, column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A table with one value replaced."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object}) if isinstance(value, str) else table
        table.loc[row, column] = value
        return table

    return change


def half(broken: Broken, name: str) -> None:
    content = broken.path(name).read_bytes()
    broken.replace(name, content[: len(content) // 2])


def everywhere(broken: Broken, name: str, value: float) -> None:
    broken.table(name, lambda table: table * 0 + value)


def dead_row(table: pd.DataFrame) -> pd.DataFrame:
    table.iloc[7] = True
    return table


AIRS, FGS1 = "AIRS-CH0_signal_0.parquet", "FGS1_signal_0.parquet"
AIRS_SET, FGS1_SET = "AIRS-CH0_calibration_0", "FGS1_calibration_0"
SPOIL: dict[str, tuple[Callable[[Broken], object], str]] = {  # what is done to the data, and what the line must name
    "signal missing": (lambda b: b.path(AIRS).unlink(), "visits: signal files are missing"),
    "signal truncated": (lambda b: half(b, FGS1), rf"{FGS1}: file: truncated"),
    "signal empty": (lambda b: b.replace(FGS1, b""), rf"{FGS1}: file: truncated"),
    "signal of wrong dtype": (
        lambda b: b.signal(FGS1, lambda t: t.cast(pa.schema([(name, pa.int32()) for name in t.column_names]))),
        rf"{FGS1}: column_0: is int32, not uint16",
    ),
    "signal of wrong shape": (
        lambda b: b.signal(FGS1, lambda t: t.select(range(1023))),
        rf"{FGS1}: shape: 1000 rows x 1023 columns",
    ),
    "signal without frames": (lambda b: b.signal(FGS1, lambda t: t.slice(0, 0)), rf"{FGS1}: shape: 0 rows"),
    "calibration file missing": (
        lambda b: b.path(f"{AIRS_SET}/dark.parquet").unlink(),
        r"dark\.parquet: file: is missing",
    ),
    "calibration file truncated": (lambda b: half(b, f"{FGS1_SET}/read.parquet"), r"read\.parquet: file: truncated"),
    "calibration of wrong dtype": (
        lambda b: b.table(f"{FGS1_SET}/dead.parquet", lambda t: t.astype("int8")),
        r"dead\.parquet: dead: is int8 .*not bool",
    ),
    "calibration of wrong shape": (
        lambda b: b.table(f"{FGS1_SET}/linear_corr.parquet", lambda t: t.iloc[:160]),
        r"linear_corr\.parquet: linear_corr: is float64 \(160, 32\), not float64 \(192, 32\)",
    ),
    "a row of dead pixels": (
        lambda b: b.table(f"{AIRS_SET}/dead.parquet", dead_row),
        r"dead\.parquet: dead: every pixel of row 7 is dead",
    ),
    "zero flat": (
        lambda b: everywhere(b, f"{AIRS_SET}/flat.parquet", 0.0),
        r"flat\.parquet: flat: \d+ live pixels are zero or NaN",
    ),
    "NaN flat": (
        lambda b: everywhere(b, f"{FGS1_SET}/flat.parquet", np.nan),
        r"flat\.parquet: flat: \d+ live pixels are zero or NaN",
    ),
    "NaN read noise": (
        lambda b: everywhere(b, f"{FGS1_SET}/read.parquet", np.nan),
        r"read\.parquet: read: live pixels are NaN",
    ),
    "NaN star": (lambda b: b.table("train_star_info.csv", cell(0, "Rs", np.nan)), r"train_star_info\.csv: Rs: planet"),
    "star that is a word": (
        lambda b: b.table("train_star_info.csv", cell(0, "sma", "far")),
        r"train_star_info\.csv: sma: planet \d+ has 'far'",
    ),
    "star table without a column": (
        lambda b: b.table("train_star_info.csv", lambda t: t.drop(columns="i")),
        r"train_star_info\.csv: i: column is missing",
    ),
    "planet twice": (
        lambda b: b.table("train_star_info.csv", lambda t: pd.concat([t, t])),
        r"train_star_info\.csv: planet_id: planet \d+ stands twice",
    ),
    "planet without a star": (
        lambda b: b.table("train_star_info.csv", lambda t: t.assign(planet_id=1)),
        r"train_star_info\.csv: planet_id: planet \d+ has a folder but no row",
    ),
    "star table missing": (
        lambda b: (b.root / "train_star_info.csv").unlink(),
        r"train_star_info\.csv: file: is missing",
    ),
    "axis shorter than the signal": (
        lambda b: b.table("axis_info.parquet", lambda t: t.iloc[:900]),
        r"axis_info\.parquet: FGS1-axis0-h: 900 times for 1000 frames",
    ),
    "axis without its column": (
        lambda b: b.table("axis_info.parquet", lambda t: t.drop(columns="AIRS-CH0-axis0-h")),
        r"axis_info\.parquet: AIRS-CH0-axis0-h: column is missing",
    ),
    "converter's gain zero": (
        lambda b: b.table("adc_info.csv", cell(0, "FGS1_adc_gain", 0.0)),
        r"adc_info\.csv: FGS1_adc_gain: gain 0",
    ),
    "converter's gain a word": (
        lambda b: b.table("adc_info.csv", cell(0, "FGS1_adc_gain", "high")),
        r"adc_info\.csv: FGS1_adc_gain",
    ),
    "converter's table empty": (lambda b: b.replace("adc_info.csv", b""), r"adc_info\.csv: file: can't be read"),
    "converter's table ragged": (
        lambda b: b.replace("adc_info.csv", b"a,b\n1,2\n1,2,3\n"),
        r"adc_info\.csv: row 2: has 3 values for 2 columns",
    ),
    "converter's table of other planets": (
        lambda b: b.table("adc_info.csv", lambda t: t.assign(planet_id=1)),
        r"adc_info\.csv: .*no single value for planet",
    ),
}


@pytest.mark.parametrize("case", SPOIL)
def test_broken_raw_data_gives_one_clear_line_and_no_output(broken: Broken, tmp_path: Path, case: str) -> None:
    spoil, wanted = SPOIL[case]
    spoil(broken)
    with pytest.raises(UserError, match=wanted) as caught:
        calibrate_run(tmp_path / "run", broken.root, [], Options(), Keep(0), Workers(2))
    line = str(caught.value)
    assert line.count("\n") == 0 and ". Fix: " in line and str(broken.root) in line
    assert not (tmp_path / "run").exists()


def test_planets_that_are_not_there(broken: Broken, tmp_path: Path) -> None:
    raw = RawFolder(broken.root)
    with pytest.raises(UserError, match=r"planet 12345 is missing\. Fix:"):
        select_planets(raw, [broken.planet, 12345])
    with pytest.raises(UserError, match=r"no planet found\. Fix:"):
        select_planets(RawFolder(tmp_path / "raw" / "train" / str(broken.planet)), [])
    with pytest.raises(UserError, match=r"the folder is missing\. Fix:"):
        select_planets(RawFolder(tmp_path / "nowhere"), [])
    assert select_planets(raw, [broken.planet, broken.planet]) == {"train": [broken.planet], "test": []}


def test_a_planet_named_by_a_table_but_without_a_folder(tiny: RawFolder, tmp_path: Path) -> None:
    lost = tiny.planets_on_disk("test")[0]
    root = tmp_path / "raw"
    shutil.copytree(tiny.root, root, copy_function=os.link)
    shutil.rmtree(root / "test" / str(lost))
    assert lost in select_planets(RawFolder(root), [])["test"]
    calibrate_run(tmp_path / "run", root, [], Options(), Keep(0), Workers(2))
    assert "planet folder: is missing. Fix:" in read_failures(tmp_path / "run")[lost]


# --- Arrays ------------------------------------------------------------------------------------------------------


def features(steps: int) -> dict[str, np.ndarray]:
    """Arrays of the schema `airs_bins`."""
    return {
        "flux": np.ones((steps, N_BINS), np.float32),
        "variance": np.full((steps, N_BINS), 0.5, np.float32),
        "time": np.arange(steps, dtype=float),
        "visit": np.zeros(steps, np.int8),
    }


@given(
    name=st.sampled_from(sorted(SCHEMAS["airs_bins"])), change=st.sampled_from(["dtype", "axis", "length", "absent"])
)
def test_arrays_off_their_schema_are_neither_written_nor_read(
    tmp_path_factory: pytest.TempPathFactory, name: str, change: str
) -> None:
    path, good = tmp_path_factory.mktemp("npz") / "a.npz", features(3)
    bad = {
        "dtype": {**good, name: good[name].astype(np.int32)},
        "axis": {**good, name: good[name][None]},
        "length": {**good, name: good[name][:2]},
        "absent": {key: array for key, array in good.items() if key != name},
    }[change]
    with pytest.raises(ContractError, match=rf"a\.npz: .*({name}|time|visit|variance).*Fix:"):
        write_npz(path, "airs_bins", **bad)
    assert not list(path.parent.iterdir())
    np.savez(path, **bad)
    with pytest.raises(ContractError, match="Fix:"):
        read_npz(path, "airs_bins")


@given(steps=st.integers(0, 5), data=st.data())
def test_arrays_come_back_as_they_went(
    tmp_path_factory: pytest.TempPathFactory, steps: int, data: st.DataObject
) -> None:
    flux = data.draw(arrays(np.float32, (steps, N_BINS), elements=st.floats(width=32), fill=st.just(np.nan)))
    path = write_npz(
        tmp_path_factory.mktemp("npz") / "new folder" / "a.npz", "airs_bins", **{**features(steps), "flux": flux}
    )
    found = read_npz(path, "airs_bins")
    assert set(found) == set(SCHEMAS["airs_bins"]) and np.array_equal(found["flux"], flux, equal_nan=True)
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    "spoilt", ["variance below zero", "NaN without a flag", "NaN variance without a flag", "flag without NaN"]
)
def test_frames_whose_mask_and_values_disagree_are_not_written(tmp_path: Path, spoilt: str) -> None:
    frames, mask = np.ones((2, 3, 4), np.float32), np.zeros((2, 3, 4), bool)
    variance = frames.copy()
    array, value = {
        "variance below zero": (variance, -1),
        "NaN without a flag": (frames, np.nan),
        "NaN variance without a flag": (variance, np.nan),
        "flag without NaN": (mask, True),
    }[spoilt]
    array[0, 0, 0] = value
    times = {"time": np.arange(2.0), "visit": np.zeros(2, np.int8)}
    parts = {name: frames for name in SCHEMAS["fgs1"] if name.startswith("variance_")}
    arrays = {"frames": frames, "variance": variance, "mask": mask, "flags": np.zeros(frames.shape, np.uint8)}
    with pytest.raises(ContractError, match=r"npz: (variance: holds negative|mask: 1 value is NaN without a flag)"):
        write_npz(tmp_path / "a.npz", "fgs1", **arrays, **parts, **times)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"words"])
def test_a_damaged_npz_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ContractError, match=r"a\.npz: file: can't be read .*Fix: run the stage"):
        read_npz(tmp_path / "a.npz", "airs_bins")


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", "airs_bins", **features(2))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.npz"]


# --- Submissions -------------------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(
    planets=st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 99),
    spelling=st.sampled_from(sorted(SUBMISSION_COLUMNS)),
)
def test_submissions_come_back_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, planets: list[int], seed: int, spelling: str
) -> None:
    rng, shape = np.random.default_rng(seed), (len(planets), N_BINS)
    values = rng.lognormal(-4.2, 0.1, shape), rng.lognormal(-8, 1, shape)
    path = tmp_path_factory.mktemp("submission") / "s.csv"
    write_submission(path, Submission(np.array(planets), values[0] - 0.01, values[1]), spelling)
    found = read_submission(path)
    assert found.planet_id.tolist() == planets and found.planet_id.dtype == np.int64
    assert np.array_equal(found.mu, values[0] - 0.01) and np.array_equal(found.sigma, values[1])
    assert path.read_text().splitlines()[0].split(",") == ["planet_id", *SUBMISSION_COLUMNS[spelling]]


def submission(planets: int = 2) -> Submission:
    return Submission(np.arange(planets), np.full((planets, N_BINS), 0.01), np.full((planets, N_BINS), 1e-4))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda t: t.iloc[:, :-1], "is a column that is missing; 565 columns beside planet_id, 566 are wanted"),
        (lambda t: pd.concat([t, t.iloc[:, 1].rename("extra")], axis=1), "extra: is a column that is unknown; 567"),
        (cell(1, "sigma_7", -1e-4), "sigma_7: planet 1 has"),
        (cell(1, "sigma_7", 0.0), "sigma_7: planet 1 has"),
        (cell(0, "sigma_100", np.inf), "sigma_100: planet 0 has"),
        (cell(1, "sigma_7", "small"), "sigma_7: planet 1 has 'small'"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "planet 0 stands twice"),
        (lambda t: t.drop(columns="planet_id"), "planet_id"),
        (lambda t: t.assign(planet_id=t["planet_id"] + 0.5), "planet_id: holds a value that is not a whole number"),
    ],
    ids=["column lost", "column added", "negative", "zero", "infinite", "word", "twice", "no ids", "broken id"],
)
def test_a_bad_submission_is_one_clear_line(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], wanted: str
) -> None:
    path = write_submission(tmp_path / "s.csv", submission(), "specification")
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(ContractError, match=rf"s\.csv: .*{wanted}.*\. Fix: ") as caught:
        read_submission(path)
    assert "\n" not in str(caught.value)


def test_a_submission_names_the_planets_asked_for() -> None:
    check_planets("s.csv", submission(), [1, 0])
    with pytest.raises(ContractError, match=r"planet 2 is missing or unknown \(1 in all\)"):
        check_planets("s.csv", submission(), [0, 1, 2])


@pytest.mark.parametrize("spoilt", ["mu", "sigma"])
def test_an_unfit_submission_is_never_written(tmp_path: Path, spoilt: str) -> None:
    bad = submission()
    getattr(bad, spoilt)[1, 5] = np.nan
    with pytest.raises(ContractError, match=r"/s\.csv: \w+_6: planet 1 has nan\. Fix:"):
        write_submission(tmp_path / "s.csv", bad)
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_the_old_submission(tmp_path: Path) -> None:
    path = write_submission(tmp_path / "s.csv", submission())
    before = path.read_bytes()
    code = f"""
import os, signal
from pathlib import Path
from spectramind_nb.core.files import atomic_path
with atomic_path(Path({str(path)!r})) as temporary:
    temporary.write_text("planet_id,wl_1")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == before and [file.name for file in tmp_path.glob("*.csv")] == ["s.csv"]


# --- Submissions in other units ------------------------------------------------------------------------------------


def submission_table(count: int = 12) -> pd.DataFrame:
    rng, columns = np.random.default_rng(0), SUBMISSION_COLUMNS["challenge"]
    mu = rng.uniform(0.005, 0.03, (count, 1)) * (1 + 0.01 * rng.normal(size=(count, N_BINS)))
    table = pd.DataFrame(np.hstack([mu, np.full((count, N_BINS), 2e-4)]), columns=list(columns))
    table.insert(0, "planet_id", range(count))
    return table


MU, SIGMA = (list(part) for part in np.split(np.array(SUBMISSION_COLUMNS["challenge"]), 2))
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def times(columns: list[str], factor: float) -> Spoil:
    return lambda table: table.assign(**{name: factor * table[name] for name in columns})


def put_sigma(value: float) -> Spoil:
    return lambda table: table.assign(sigma_5=value)


def put_mu(value: float) -> Spoil:
    return lambda table: table.assign(wl_100=table["wl_100"].where(table["planet_id"] != 3, value))


def swap_one(table: pd.DataFrame) -> pd.DataFrame:
    """Exchange the depths and the error bars of planet 3."""
    table.loc[3, MU + SIGMA] = table.loc[3, SIGMA + MU].to_numpy()
    return table


def squared_errors(planets: Sequence[int]) -> Spoil:
    """Write variances of some planets in the place of standard deviations."""
    return lambda t: t.assign(**{n: t[n].where(~t["planet_id"].isin(planets), t[n] ** 2) for n in SIGMA})


def alternate(table: pd.DataFrame) -> pd.DataFrame:
    """Write each error bar behind its depth, under the names of a right table."""
    pairs = [name for both in zip(MU, SIGMA, strict=True) for name in both]
    return table[["planet_id", *pairs]].set_axis(table.columns, axis=1)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (times(MU, 1e6), "mu: planet 0 has a depth of .*; it looks like ppm"),
        (times(MU + SIGMA, 1e6), "it looks like ppm"),
        (times(MU, 100), "it looks like percent"),
        (times(MU, 1000), "it looks like parts per thousand"),
        (lambda t: t.assign(**{name: np.sqrt(t[name]) for name in MU}), "it looks like Rp/Rs, not its square"),
        (times(MU, -1), "mu: planet 0 has a depth of -"),
        (times(SIGMA, 1e6), "sigma: planet 0 has 200 in bin 0, larger than any error bar; it looks like ppm"),
        (times(SIGMA, 1e-16), "sigma: planet 0 has 2e-20 in bin 0, smaller than any error bar"),
        (squared_errors(range(12)), "sigma: planet 0 has a typical error bar of 4e-08; it looks like a variance"),
        (squared_errors([4]), "sigma: planet 4 has a typical error bar of 4e-08; it looks like a variance"),
        (times(MU[200:], 0), "mu: planet 0 has a depth of 0 in bin 200 and 0.02.* in most bins"),
        (put_sigma(0.0), "sigma_5: planet 0 has 0.0"),
        (put_sigma(np.inf), "sigma_5: planet 0 has inf"),
        (put_sigma(np.nan), "sigma_5: planet 0 has nan"),
        (lambda t: t.rename(columns=dict(zip(MU + SIGMA, SIGMA + MU, strict=True))), "as if both were swapped"),
        (lambda t: pd.concat([t, t.iloc[3:4]]), "planet_id: planet 3 stands twice"),
        (lambda t: t.assign(**{name: t[name] ** 2 for name in MU}), "mu: planet 0 has a depth of 0.0004"),
        (times(MU, 0), "mu: planet 0 has a depth of 0"),
        (lambda t: t.mask(t["planet_id"] == 4, t * 1e6).assign(planet_id=range(12)), "planet 4 .* it looks like ppm"),
        (put_mu(1.0), "mu: planet 3 has a depth of 1 in bin 99 and 0.005409 in most bins"),
        (lambda t: t.assign(wl_100=1e6 * t["wl_100"]), "mu: planet 0 has a depth of 2.095e.04 in bin 99"),
        (times(SIGMA, 100), "sigma: the typical error bar is 0.02, .*; they look like parts per thousand or percent"),
        (times(SIGMA, 1000), "sigma: the typical error bar is 0.2, more than the depths of all planets scatter"),
        (swap_one, r"mu: is smaller than sigma by far, as if both were swapped \(planet 3\)"),
        (lambda t: t.assign(planet_id=-t["planet_id"]), "planet_id: -11 is below zero"),
        (alternate, "mu: planet .* jump by .* as if depths and error bars alternated"),
        (lambda t: t.iloc[:0], "rows: are missing: there is a header alone"),
        (lambda t: t.drop(columns="wl_7"), "wl_7: is a column that is missing; 565 columns beside planet_id"),
    ],
)
def test_a_submission_in_another_unit_is_refused(spoil: Spoil, said: str, tmp_path: Path) -> None:
    submission_table().to_csv(tmp_path / "good.csv", index=False)
    assert len(read_submission(tmp_path / "good.csv").mu) == 12
    spoil(submission_table()).to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(ContractError, match=said) as caught:
        read_submission(tmp_path / "bad.csv")
    assert "Fix: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_submission_in_another_format_is_named(tmp_path: Path) -> None:
    path, table = tmp_path / "a.csv", submission_table()
    table.to_csv(path, index=False, encoding="utf-16")
    assert len(read_submission(path).mu) == 12
    for said, write in {
        "file: is separated by semicolons": lambda: table.to_csv(path, index=False, sep=";", decimal=","),
        "file: is separated by tabs": lambda: table.to_csv(path, index=False, sep="\t"),
        "file: is separated by vertical bars": lambda: table.to_csv(path, index=False, sep="|"),
        "Unnamed: 0: is a column of row numbers. Fix: write it with index=False": lambda: table.to_csv(path),
        "wl_1: column stands 2 times": lambda: pd.concat([table, table[["wl_1"]]], axis=1).to_csv(path, index=False),
        "file: is a parquet file": lambda: table.to_parquet(path),
        "file: can't be read": lambda: path.write_text(""),
    }.items():
        write()
        with pytest.raises(ContractError, match=said):
            read_submission(path)


def as_lines(table: pd.DataFrame) -> list[str]:
    return table.to_csv(index=False).splitlines()


SAME: dict[str, Callable[[list[str]], str]] = {  # other ways to write one table
    "comments": lambda lines: "\n".join(["# mine", lines[0], "# of a fit", *lines[1:]]),
    "empty lines": lambda lines: "\n\n".join(lines),
    "Windows": lambda lines: "\r\n".join(lines),
    "old Mac": lambda lines: "\r".join(lines),
    "byte order mark": lambda lines: "\ufeff" + "\n".join(lines),
    "spaces": lambda lines: "\n".join(line.replace(",", ", ") for line in lines),
    "quotes": lambda lines: "\n".join('"' + line.replace(",", '","') + '"' for line in lines),
    "a comma at each end": lambda lines: "\n".join(f"{line}," for line in lines),
    "a comma at the end of rows": lambda lines: "\n".join([lines[0], *(f"{line}," for line in lines[1:])]),
}
OTHER: dict[str, tuple[Callable[[list[str]], str], str]] = {
    "spaces for commas": (lambda lines: "\n".join(lines).replace(",", " "), "file: is separated by spaces"),
    "no header": (lambda lines: "\n".join(lines[1:]), "header: is missing: the first line holds numbers"),
    "a value too many": (lambda lines: "\n".join([*lines, lines[1] + ",5"]), "row 13: has 568 values for 567 columns"),
    "comments alone": (lambda lines: "# nothing\n", "it has comments alone"),
}


@pytest.mark.parametrize("case", SAME)
def test_a_table_with_commas_is_read_in_any_usual_form(case: str, tmp_path: Path) -> None:
    table = submission_table()
    (tmp_path / "a.csv").write_bytes(SAME[case](as_lines(table)).encode())
    found = read_submission(tmp_path / "a.csv")
    assert np.array_equal(found.planet_id, table["planet_id"]) and np.allclose(found.mu, table[MU], rtol=1e-12)


@pytest.mark.parametrize("case", OTHER)
def test_a_table_without_columns_is_refused(case: str, tmp_path: Path) -> None:
    write, said = OTHER[case]
    (tmp_path / "a.csv").write_text(write(as_lines(submission_table())))
    with pytest.raises(ContractError, match=said):
        read_submission(tmp_path / "a.csv")


# --- Labels in other units -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "said"),
    [(1e6, "it looks like ppm"), (100.0, "it looks like percent"), (1e3, "it looks like parts per thousand")],
)
def test_labels_in_another_unit_are_refused(factor: float, said: str, broken: Broken) -> None:
    assert len(RawFolder(broken.root).labels([broken.planet])) == 1  # type: ignore[arg-type]
    broken.table("train.csv", lambda table: table.assign(**{name: factor * table[name] for name in MU}))
    with pytest.raises(ContractError, match=f"train.csv: labels: planet {broken.planet} has a depth .*; {said}"):
        RawFolder(broken.root).labels([broken.planet])


def test_words_for_an_error_of_the_orbit_are_refused(broken: Broken) -> None:
    broken.table("train_star_info.csv", lambda table: table.assign(sma_err="small"))
    with pytest.raises(
        ContractError, match=f"sma_err: planet {broken.planet} has 'small'. Fix: give a number, or leave"
    ):
        RawFolder(broken.root).star_info("train", [broken.planet])


def test_a_column_in_small_letters_is_named(broken: Broken) -> None:
    broken.table("train_star_info.csv", lambda table: table.rename(columns=str.lower))
    with pytest.raises(ContractError, match=r"Rs: column is missing \(5 in all\); there is 'rs'"):
        RawFolder(broken.root).star_info("train", [broken.planet])


def test_no_spectra_have_no_faults() -> None:
    """A table of labels without rows, or one with frames of other planets, is right as far as it goes."""
    from spectramind_nb.core.depth_checks import depth_fault

    assert depth_fault(np.zeros(0, int), np.zeros((0, 283))) == ""


def test_no_damaged_byte_of_an_npz_file_is_a_traceback(tmp_path: Path) -> None:
    """Such as a method of compression or a password that a zip file does not have."""
    path, named = tmp_path / "a.npz", 0
    np.savez(path, planet=np.arange(3))
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + b"\x63" + content[place + 1 :])
        try:
            load_arrays(path, "run the stage again")
        except ContractError as error:
            named += "Fix: run the stage again" in str(error)
    assert named > 100
