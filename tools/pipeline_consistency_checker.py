"""Whether configuration, notebooks, contracts, command line, dvc.yaml, workflows and docs tell the same story.

    python tools/pipeline_consistency_checker.py

One line for each thing that one of them says and another doesn't know: file:line: what. Fix: how. Exit code 1 then.
"""

import ast
import copy
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import typer.main
import yaml
from omegaconf import OmegaConf

from spectramind_nb.cli import app as cli
from spectramind_nb.cli.experiments import choices
from spectramind_nb.core import contracts
from spectramind_nb.pipeline import config, network_diagnostics, network_training, provenance, stages
from spectramind_nb.pipeline.config import ConfigError, compose, flatten, nearest, section_name
from spectramind_nb.uncertainty import calibration

ROOT = Path(__file__).parents[1]
# The specification's exact knobs.
KNOBS = (
    *(f"model.fgs1_mamba.{name}" for name in ("d_model", "n_layers", "bidir", "dropout")),
    *(f"model.airs_gnn.{name}" for name in ("d_model", "layers", "type", "edge_features")),
    *(f"model.fusion.{name}" for name in ("type", "hidden", "dropout")),
    *(f"model.decoder_mu.{name}" for name in ("scales", "aux_loss")),
    *(f"model.head_sigma.{name}" for name in ("type", "sigma_min", "quantiles")),
    *(f"train.{name}" for name in ("optim.name", "optim.lr", "optim.wd", "sched.name", "sched.warmup_steps")),
    *(f"train.{name}" for name in ("amp", "grad_accum", "ckpt_every_epochs")),
    *(f"loss.λ_{name}" for name in ("sm", "nn", "coh", "seam", "ratio", "qm")),
    *(f"calib.{name}" for name in ("temp.enabled", "temp.tau_init", "corel.enabled", "corel.alpha")),
    *("diag.html.open", "diag.html.out", "diag.skip_heavy_diag", "submission.batch_predict"),
)
FILES = r"csv|json|jsonl|npz|npy|safetensors|zip|html|md|yaml|py|ipynb|parquet|txt|part|ecsv|nc|png|svg"


@dataclass(frozen=True)
class Fault:
    """Something that one place says and another doesn't know."""

    path: Path
    line: int
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}. Fix: {self.fix}"


# Text, with the numbers of its lines


def line_of(path: Path, words: str) -> int:
    """The first line of a file that holds these words; 1 where none does."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if words in line), 1)


@lru_cache
def prose(path: Path) -> list[tuple[int, str]]:
    """Lines of Markdown with their numbers: of a file, or of a notebook's cells, its shell lines as a block."""
    if path.suffix == ".md":
        return [*enumerate(path.read_text(encoding="utf-8").splitlines(), 1)]
    raw, found = path.read_text(encoding="utf-8").splitlines(), list[tuple[int, str]]()
    for cell in json.loads("\n".join(raw))["cells"]:
        lines = "".join(cell["source"]).splitlines()
        if cell["cell_type"] == "code":
            lines = ["```sh", *(line[1:] for line in lines if line.startswith("!")), "```"]
        start = found[-1][0] if found else 1
        for line in lines:
            wanted = json.dumps(line, ensure_ascii=False)[1:-1]
            start = next((k for k in range(start, len(raw) + 1) if wanted and wanted in raw[k - 1]), start)
            found.append((start, line))
    return found


def documents(root: Path) -> list[Path]:
    """All that people read."""
    books = [*root.glob("nbs/**/*.ipynb"), *root.glob("kaggle/*/*.ipynb")]
    found = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("kaggle/*.md"), *books]
    return sorted(path for path in found if not any(part.startswith((".", "_")) for part in path.parts))


def code_of(path: Path) -> str:
    """A notebook's code, but for its cell of parameters."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [
        cell for cell in cells if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]
    return "\n".join("".join(cell["source"]) for cell in code)


# The command line


def tree() -> Any:
    """The `spectramind` command, as Typer makes it."""
    return typer.main.get_command(cli.app)


def current(group: Any) -> dict[str, Any]:
    """The commands of a group by name, without hidden ones, which are earlier names."""
    return {name: command for name, command in group.commands.items() if not command.hidden}


@lru_cache
def setting_fault(word: str, profile: str) -> str:
    """What is wrong with an override; "" if nothing is."""
    try:
        compose([word], profile)
    except ConfigError as error:
        return str(error).removeprefix("configuration: ")
    return ""


def command_fault(words: list[str], partial: bool = False) -> str:
    """What is wrong with the words after `spectramind`; "" if nothing is. `partial` may lack what is required."""
    node, name, rest = tree(), "spectramind", list(words)
    while hasattr(node, "commands") and rest:
        if node.invoke_without_command and rest[0].startswith("-"):
            break  # the group's own action
        word = rest.pop(0)
        if word in {"--help", *(opt for param in node.params for opt in param.opts)}:
            continue
        known = current(node)
        if word not in known:
            return f"{name} has no command {word}. Fix: {nearest(word, sorted(known))}"
        node, name = known[word], f"{name} {word}"
    if (hasattr(node, "commands") and not node.invoke_without_command) or "--help" in rest:
        return ""
    try:
        values = node.make_context(name, rest).params
    except Exception as error:
        vague = type(error).__name__ in ("MissingParameter", "BadParameter")
        if not hasattr(error, "format_message") or (vague and (partial or "$" in " ".join(rest))):
            return ""
        return f"{name}: {error.format_message().rstrip('.')}. Fix: as {name} --help has it"
    grid = [one for word in values.get("grid") or [] for one in choices(word)]
    lists = [one for text in values.get("lists") or [] for one in shlex.split(text)]
    settings = [word for word in [*(values.get("overrides") or []), *grid, *lists] if "$" not in word]
    found = (setting_fault(word, str(values.get("profile") or "demo")) for word in settings)
    return next((fault for fault in found if fault), "")


def commands_in(text: str) -> Iterator[list[str]]:
    """The words after each `spectramind` in a line of shell."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        tokens = [*lexer]
    except ValueError:
        return
    words: list[str] | None = None
    for token in [*tokens, ";"]:
        if re.fullmatch(r"[();<>|&]+", token):
            if words:
                yield words
            words = None
        elif words is None and token.rpartition("/")[2] == "spectramind":
            words = []
        elif words is not None:
            words.append(token)


def _split(fault: str) -> tuple[str, str]:
    what, _, fix = fault.partition(". Fix: ")
    return what, fix or "mend it"


# What reads a setting


def dotted(node: ast.AST) -> str:
    """`cfg.chain.workers` of an expression of attributes and of keys in brackets; ? for what else stands in front."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return f"{dotted(node.value)}.{node.slice.value}"
    return node.id if isinstance(node, ast.Name) else "?"


def reads(code: str) -> set[str]:
    """Whatever code may read a setting by: dotted expressions, names that stand for one followed, and texts."""
    found, stands_for = set[str](), dict[str, str]()
    for node in ast.walk(ast.parse(re.sub(r"^\s*[%!].*$", "", code, flags=re.MULTILINE))):
        if isinstance(node, ast.Assign):
            left, right = (getattr(side, "elts", [side]) for side in (node.targets[0], node.value))
            stands_for |= {one.id: dotted(other) for one, other in zip(left, right) if isinstance(one, ast.Name)}  # noqa: B905
        elif isinstance(node, (ast.Attribute, ast.Subscript)):
            found.add(dotted(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    roots = ((chain, *chain.partition(".")[::2]) for chain in sorted(found))
    return found | {f"{stands_for[root]}.{rest}" for chain, root, rest in roots if root in stands_for}


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value, *(value[-1:] or ["x"])]
    return f"{value}x" if isinstance(value, str) else value + 1 if isinstance(value, int) else value * 1.01 + 1e-9


def taken(known: Mapping[str, Any]) -> set[str]:
    """Settings inside the sections model, train, calib and diag that change what the chapters make of these."""
    whole = {name: value for name, value in known.items() if "." not in name}
    makers: dict[str, Callable[[Any], Any]] = {
        "model": lambda all_: network_training.training_plan({"start": "fresh"}, all_["model"]),
        "train": lambda all_: network_training.training_plan({**all_["train"], "start": "fresh"}, all_["model"]),
        "calib": lambda all_: calibration.steps_of(**all_["calib"]),
        "diag": lambda all_: network_diagnostics.MapOptions(**all_["diag"]["umap"], **all_["diag"]["tsne"]),
    }

    def made(section: str, settings: Any) -> Any:
        try:
            return makers[section](settings)
        except Exception as error:
            return str(error)

    found = set[str]()
    with mock.patch.object(network_training, "compose", lambda: OmegaConf.create(whole)):
        usual = {section: made(section, whole) for section in makers}
        for key in (key for key, value in known.items() if "." in key and not isinstance(value, dict)):
            section, *between, name = key.split(".")
            if section not in makers:
                continue
            node = other = copy.deepcopy(whole)
            for part in (section, *between):
                node = node[part]
            node[name] = changed(node[name])
            if made(section, other) != usual[section]:
                found.add(key)
    return found


def unread(root: Path, known: Mapping[str, Any]) -> list[str]:
    """Settings that nothing reads: no notebook as a parameter, no chapter's options, no code or setting by its name."""
    books = {path.stem: code_of(path) for path in sorted((root / "nbs").glob("[0-9]*.ipynb"))}
    modules = (path.read_text(encoding="utf-8") for path in (root / "spectramind_nb").rglob("*.py"))
    texts = [f".{chain}." for code in [*books.values(), *modules] for chain in reads(code)]
    layers = (path.read_text(encoding="utf-8") for path in (root / "spectramind_nb/configs").rglob("*.yaml"))
    found = taken(known) | {key for text in layers for key in re.findall(r"\$\{([\w.]+)\}", text)}
    for stage in stages.find_stages(Path("run"), root / "nbs"):
        names = [name for name in stages.declared_parameters(stage.notebook) if name not in stages.COMMON]
        used = {name for name in names if re.search(rf"\b{re.escape(name)}\b", books[stage.name])}
        found |= {f"{section_name(stage.name)}.{name}" for name in used}
    sections = tuple(f"{name}." for name in config.SECTIONS.values())

    def read(key: str) -> bool:
        inside = key.partition(".")[2] if key.startswith(sections) else ""  # a notebook has its section's parts by name
        return any(f".{name}." in text for name in (key, *([inside] if "." in inside else [])) for text in texts)

    leaves = [
        key for key, value in known.items() if not isinstance(value, dict) and not key.startswith(config.REPEATED)
    ]
    return [key for key in leaves if key not in found and not read(key)]


# The checks: each yields faults of the project below a folder


def check_settings(root: Path) -> Iterator[Fault]:
    """Each stage's section and its notebook's parameters are the same, in every profile; each setting is read."""
    home = root / "spectramind_nb/configs/config_v50.yaml"
    common = dict.fromkeys(stages.COMMON, "") | {"workers": 1, "seed": 1, "planets": []}
    told = set[str]()
    for cfg in (compose(profile=profile) for profile in config.profiles()):
        for stage in stages.find_stages(Path("run"), root / "nbs"):
            try:
                stages.stage_parameters(stage, cfg, common)
            except ConfigError as error:
                if str(error) not in told:
                    told.add(str(error))
                    line = line_of(home, f"{section_name(stage.name)}:")
                    yield Fault(home, line, *_split(str(error).removeprefix("configuration: ")))
    known = flatten(compose())
    for key in unread(root, known):
        name = key.rpartition(".")[2]
        yield Fault(home, line_of(home, f"{name}:"), f"{key} is read by nothing", "use it, or leave it out")
    for key in (key for key in KNOBS if key not in known):
        yield Fault(home, 1, f"the specification's {key} is missing", "add it")


def check_named_settings(root: Path) -> Iterator[Fault]:
    """Settings that the library or the docs name are there."""
    known = flatten(compose())
    sections = "|".join(re.escape(name) for name, value in known.items() if isinstance(value, dict) and "." not in name)
    dotted = re.compile(rf"(?:{sections})(?:\.[^\W\d]\w*)+")

    def unknown(text: str) -> bool:
        own = config.own_key(text)
        return bool(dotted.fullmatch(own)) and own not in known and not re.search(rf"\.({FILES})$", own)

    for path in sorted((root / "spectramind_nb").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and unknown(node.value):
                yield Fault(path, node.lineno, f"{node.value} is no setting", nearest(node.value, list(known)))
    for path in documents(root):
        for number, line in prose(path):
            for text in re.findall(r"`([^`=\s]+)(?:=[^`]*)?`", line):
                if unknown(text):
                    yield Fault(path, number, f"{text} is no setting", nearest(text, list(known)))


def check_contracts(root: Path) -> Iterator[Fault]:
    """Each schema is used, and each that is used is there."""
    used = dict[str, tuple[Path, int]]()
    literals = set[str]()
    for path in sorted((root / "spectramind_nb").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if called in ("read_npz", "write_npz") and isinstance(schema := node.args[1], ast.Constant):  # type: ignore[attr-defined]
                used[str(schema.value)] = (path, node.lineno)  # type: ignore[attr-defined]
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.stem != "contracts":
                literals.add(node.value)
    for name in sorted(used.keys() - contracts.SCHEMAS.keys()):
        yield Fault(*used[name], f"schema {name} is not in contracts.SCHEMAS", nearest(name, list(contracts.SCHEMAS)))
    home = root / "spectramind_nb/core/contracts.py"
    for name in sorted(contracts.SCHEMAS.keys() - literals):
        yield Fault(home, line_of(home, f'"{name}"'), f"schema {name} is used by nothing", "use it, or leave it out")


def check_events(root: Path) -> Iterator[Fault]:
    """Events name the commands that there are; each command has an example that holds."""
    home, top = root / "spectramind_nb/pipeline/provenance.py", current(tree())
    leaves = {name: getattr(node, "commands", {name: node}) for name, node in top.items()}
    leaves |= {
        name: {name: top[name], **leaves[name]} for name in top if getattr(top[name], "invoke_without_command", 0)
    }
    for name in (name for name in top if name not in provenance.COMMANDS):
        yield Fault(home, line_of(home, "COMMANDS"), f"events have no command {name}", "add it to COMMANDS")
    every = {*top, *(sub for group in leaves.values() for sub in group)}
    for name in (name for name in provenance.COMMANDS if name not in every):
        yield Fault(home, line_of(home, f'"{name}"'), f"there is no command {name}", "take it out of COMMANDS")
    files = sorted((root / "spectramind_nb/cli").glob("*.py"))
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for name in re.findall(r'recorded\(\s*"([\w-]+)"', line):
                if name not in provenance.COMMANDS:
                    yield Fault(path, number, f"events have no command {name}", "add it to provenance.COMMANDS")
    for name, node in (pair for group in leaves.values() for pair in group.items()):
        example = re.sub(r"Example: |\s+or:.*", "", node.epilog or "")
        path = next((file for file in files if example and example in file.read_text(encoding="utf-8")), files[0])
        if not [*commands_in(example)]:
            yield Fault(path, 1, f"spectramind {name} has no example", 'give it epilog="Example: spectramind ..."')
        for words in commands_in(example):
            if fault := command_fault(words):
                yield Fault(path, line_of(path, example), f"example of {name}: {_split(fault)[0]}", _split(fault)[1])


def check_dvc(root: Path) -> Iterator[Fault]:
    """Commands of dvc.yaml parse, what they depend on is there, and each chapter that is a stage has its place."""
    home, parameters = root / "dvc.yaml", yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    wanted = yaml.safe_load(home.read_text(encoding="utf-8"))["stages"]

    def names(stage: dict[str, Any], *kinds: str) -> list[str]:
        return [
            name
            for kind in kinds
            for entry in stage.get(kind, [])
            for name in ([entry] if isinstance(entry, str) else entry)
        ]

    def value(found: re.Match[str]) -> str:
        node: Any = parameters
        for part in found[1].split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return found[0] if node is None else str(node)

    made = {name for stage in wanted.values() for name in names(stage, "outs", "metrics", "plots")}
    for name, stage in wanted.items():
        line, command = line_of(home, f"  {name}:"), re.sub(r"\$\{([\w.]+)\}", value, stage["cmd"])
        for lost in re.findall(r"\$\{([\w.]+)\}", command):
            yield Fault(home, line, f"stage {name}: {lost} is not in params.yaml", "add it there")
        found = [*commands_in(command)]
        for fault in filter(None, map(command_fault, found)):
            yield Fault(home, line, f"stage {name}: {_split(fault)[0]}", _split(fault)[1])
        for path in names(stage, "deps"):
            if path not in made and not (root / path).exists():
                yield Fault(home, line_of(home, path), f"stage {name}: {path} is missing", "name a file, or an out")
    every = {name for stage in wanted.values() for name in names(stage, "deps")} | made
    for stage in stages.find_stages(Path("outputs/run"), root / "nbs"):
        for path in (f"nbs/{stage.notebook.name}", str(stage.folder)):
            if path not in every:
                kind = "dependency" if path.startswith("nbs") else "out"
                yield Fault(home, 1, f"{path} is no stage's {kind}", "add it to the stage that runs it")


def blocks(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Lines of shell in the code blocks of Markdown, continued ones joined."""
    inside, language, kept = False, "", ""
    for number, line in lines:
        fence, prompted = re.match(r"\s*```\s*(\w*)", line), re.sub(r"^\s*\$ ", "", line)
        if fence:
            inside, language = not inside, fence[1]
        elif inside and (language != "console" or prompted != line or kept):
            kept += prompted.rstrip("\\")
            if not line.endswith("\\"):
                yield number, kept
                kept = ""


def check_docs(root: Path) -> Iterator[Fault]:
    """Check commands and links in all documents, and that docs/chapters.md lists every notebook."""
    for path in documents(root):
        lines = prose(path)
        shell = [(number, text, False) for number, text in blocks(lines)]
        shell += [
            (k, text, True)
            for k, line in lines
            for text in re.findall(r"`(spectramind [a-z-].*?)\s*(?:\.\.\.|…|`)", line)
        ]
        for number, text, partial in shell:
            for words in commands_in(text) if text.lstrip().startswith(("spectramind", "pip ", "python ")) else ():
                if fault := command_fault(words, partial):
                    yield Fault(path, number, *_split(fault))
            for script in re.findall(r"^(?:python|bash) ([\w./-]+)", text):
                if not partial and not (root / script).is_file():
                    yield Fault(path, number, f"{script} is missing", "name a script that is there")
        if path == root / "nbs/index.ipynb":
            continue  # its links are the README's, which is made of it
        for number, line in lines:
            for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", line):
                if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                    yield Fault(path, number, f"the link {target} leads nowhere", "link to a file that is there")
    table = root / "docs/chapters.md"
    listed = table.read_text(encoding="utf-8")
    for path in (path for path in documents(root) if path.is_relative_to(root / "nbs") and path.stem != "index"):
        name = path.relative_to(root).as_posix()
        if f"(../{name})" not in listed:
            heading = "| chapter |" if path.stem[0].isdigit() else "| module |"
            yield Fault(table, line_of(table, heading), f"{name} isn't listed", "add a row for it")


def words_in(code: str) -> Iterator[tuple[int, list[str]]]:
    """Line and words of each `spectramind("predict", ...)` in code; 1 or $ for what only a run knows."""
    lists, calls = dict[str, list[ast.expr]](), list[ast.Call]()
    source = ast.parse(re.sub(r"^\s*[%!].*$", "", code, flags=re.MULTILINE))
    for node in ast.walk(source):
        target: Any = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, (ast.Assign, ast.AugAssign)) and isinstance(node.value, ast.List):
            lists.setdefault(getattr(target, "id", "?"), []).extend(node.value.elts)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "spectramind":
            calls.append(node)

    def spell(node: ast.expr) -> list[str]:
        if isinstance(node, ast.Starred):
            inside = lists.get(getattr(node.value, "id", "?"))
            return [word for each in inside or () for word in spell(each)]
        text = node.value if isinstance(node, ast.Constant) else "$" if isinstance(node, ast.JoinedStr) else "1"
        return [str(text)]

    for call in calls:
        yield call.lineno, [word for each in call.args for word in spell(each)]


def check_kaggle(root: Path) -> Iterator[Fault]:
    """Commands that Kaggle's notebooks call are good."""
    for path in sorted(root.glob("kaggle/*/*.ipynb")):
        code = code_of(path)
        for number, words in words_in(code):
            if fault := command_fault(words):
                yield Fault(path, line_of(path, code.splitlines()[number - 1].strip().split('"')[0]), *_split(fault))


def check_workflows(root: Path) -> Iterator[Fault]:
    """What workflows, gates and Dockerfile run is there."""
    gates = re.findall(r"^gate_(\w+)\(\)", (root / ".ci/gates").read_text(encoding="utf-8"), re.M)
    for path in [*sorted((root / ".github/workflows").glob("*.yaml")), *root.glob(".ci/*"), root / "Dockerfile"]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else [], 1):
            text = re.sub(r"^\s*(?:- )?(?:run: |RUN |#.*)", "", line).strip()
            for words in commands_in(text):
                if words and re.match(r"[a-z-]", words[0]) and (fault := command_fault(words)):
                    yield Fault(path, number, *_split(fault))
            for gate in " ".join(re.findall(r"bash \.ci/gates ([\w ]+)", text)).split():
                if gate not in gates:
                    yield Fault(path, number, f"there is no gate {gate}", nearest(gate, gates))
            for script in re.findall(r"(?:python|bash) ((?:[\w.-]+/)[\w./-]+)", text):
                if not (root / script).is_file():
                    yield Fault(path, number, f"{script} is missing", "name a script that is there")


def check_differences(root: Path) -> Iterator[Fault]:
    """Each row of the table of differences from the specification has a reason and names a file that exists."""
    path = root / "docs/adr/0020-where-we-differ.md"
    rows = [(n, line) for n, line in prose(path) if line.startswith("| ")][1:]
    for number, line in rows:
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) != 4 or not all(cells):
            yield Fault(path, number, f"the row has {len(cells)} cells", "give what, here, reason and where")
        elif not (root / cells[3]).is_file():
            yield Fault(path, number, f"{cells[3]} is missing", "name the file that shows the difference")
    if not rows:
        yield Fault(path, 1, "there is no table", "list the differences from the specification")


def check_specification(root: Path) -> Iterator[Fault]:
    """Each item of the specification names files and tests that exist, and how it is met."""
    path, differences = root / "docs/specification.md", "(adr/0020-where-we-differ.md)"
    functions = {
        f"tests/{file.name}::{node.name}"
        for file in (root / "tests").glob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    for number, line in prose(path):
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if not line.startswith("| ") or len(cells) == 2 or cells[-1] == "how":
            continue
        if len(cells) != 4 or not all(cells):
            yield Fault(path, number, f"the row has {len(cells)} cells", "give item, where, test and how")
            continue
        item, where, named, how = cells[0], cells[1], re.findall(r"`([^`]+)`", cells[2]), cells[3]
        if not re.search(r"\]\([^)]+\)", where):
            yield Fault(path, number, f"{item}: no file is named", "link to the file where it lives")
        if not named:
            yield Fault(path, number, f"{item}: no test proves it", "name one as `tests/test_x.py::test_name`")
        for name in (name for name in named if name not in functions):
            yield Fault(path, number, f"{item}: there is no test {name}", nearest(name, sorted(functions)))
        if not re.match(r"as written$|partly: \w|differs: ", how):
            yield Fault(path, number, f"{item}: '{how}' says not how it is met", "as written, partly: or differs:")
        elif how.startswith("differs:") and differences not in how:
            yield Fault(path, number, f"{item}: the difference has no reason", f"link to {differences[1:-1]}")


CHECKS: tuple[Callable[[Path], Iterator[Fault]], ...] = (
    check_settings,
    check_named_settings,
    check_contracts,
    check_differences,
    check_specification,
    check_events,
    check_dvc,
    check_docs,
    check_kaggle,
    check_workflows,
)


def faults(root: Path = ROOT) -> list[Fault]:
    """All faults of the project below a folder, its code as imported."""
    return [fault for check in CHECKS for fault in check(root)]


if __name__ == "__main__":
    found = faults()
    for fault in found:
        print(Fault(fault.path.relative_to(ROOT), fault.line, fault.what, fault.fix))
    print(
        f"{len(found)} faults"
        if found
        else "consistent: settings, notebooks, contracts, commands, dvc.yaml, docs, workflows"
    )
    sys.exit(bool(found))
