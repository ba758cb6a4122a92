"""Planets on threads, processes and a dask cluster; one that fails, fails alone and is named."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_contracts import SPOIL, Broken

from spectramind_nb.chapters.calibration import Keep, calibrate_run
from spectramind_nb.chapters.features import extract_run
from spectramind_nb.core.contracts import read_npz
from spectramind_nb.core.errors import UserError
from spectramind_nb.core.star_table import AU_IN_SOLAR_RADII, SOLAR_RADIUS_KM
from spectramind_nb.detector.corrections import Options
from spectramind_nb.detector.extraction import Steps, extract_planet
from spectramind_nb.detector.photometry import Photometry
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.pipeline.config import ConfigError
from spectramind_nb.pipeline.planets import Failure, Workers, map_planets, read_failures
from spectramind_nb.pipeline.selection import check_rows
from spectramind_nb.simulator.population import draw_system

distributed = pytest.importorskip("distributed")
PLANETS = [("train", number) for number in range(12)]


@pytest.fixture(scope="module")
def cluster() -> Iterator["distributed.LocalCluster"]:
    """A scheduler with two worker processes."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def where(kind: str, request: pytest.FixtureRequest) -> Workers:
    scheduler = request.getfixturevalue("cluster").scheduler_address if kind == "dask" else ""
    return Workers(2, kind, scheduler)


def square(who: tuple[str, int]) -> int:
    if who[1] == 5:
        raise UserError("planet 5 is cloudy. Fix: wait")
    if who[1] == 6:
        return 1 // 0
    return who[1] ** 2


@pytest.mark.parametrize("kind", ["threads", "processes", "dask"])
@pytest.mark.slow
def test_every_executor_gives_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    outcomes = map_planets(square, PLANETS, where(kind, request), "squares")
    assert outcomes.results == [number**2 for number in range(12) if number not in (5, 6)]
    mendable, unforeseen = outcomes.failures
    assert mendable == Failure("train", 5, "planet 5 is cloudy. Fix: wait")
    assert unforeseen.planet == 6 and "ZeroDivisionError" in unforeseen.problem and "1 // 0" in unforeseen.trace


def test_when_all_fail_the_reason_is_a_common_one() -> None:
    with pytest.raises(UserError, match="planet 5 is cloudy"):
        map_planets(square, [("train", 5), ("train", 6)], Workers(), "squares")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        map_planets(square, [("train", 6)], Workers(), "squares")
    assert map_planets(square, [], Workers(), "squares").results == []


def slow_square(who: tuple[str, int], folder: Path) -> int:
    (folder / f"{who[1]}.{os.getpid()}").touch()
    time.sleep(0.3)
    return who[1] ** 2


def killer(folder: Path) -> None:
    while len(begun := list(folder.iterdir())) < 5:
        time.sleep(0.02)
    os.kill(int(begun[-1].suffix[1:]), signal.SIGKILL)


@pytest.mark.slow
def test_a_cluster_outlives_a_killed_worker(cluster: "distributed.LocalCluster", tmp_path: Path) -> None:
    from threading import Thread

    thread = Thread(target=killer, args=(tmp_path,))
    thread.start()
    workers = Workers(executor="dask", scheduler=cluster.scheduler_address)
    outcomes = map_planets(partial(slow_square, folder=tmp_path), PLANETS, workers, "squares")
    thread.join()
    assert outcomes.results == [number**2 for number in range(12)] and not outcomes.failures
    processes = {path.suffix for path in tmp_path.iterdir()}
    assert len(processes) >= 2 and len(list(tmp_path.iterdir())) > 12, "the killed worker's planet ran once more"


@pytest.mark.slow
def test_features_on_a_cluster_are_those_of_one_process(
    cluster: "distributed.LocalCluster", tiny: RawFolder, tmp_path: Path
) -> None:
    everyone = [(split, planet) for split in ("train", "test") for planet in tiny.planets_on_disk(split)]
    for folder, workers in (
        ("here", Workers(1)),
        ("there", Workers(executor="dask", scheduler=cluster.scheduler_address)),
    ):
        map_planets(partial(extract_planet, raw=tiny, out=tmp_path / folder), everyone, workers, "planets")
    for _, planet in everyone:
        for kind in ("fgs1_white", "airs_bins"):
            here, there = (read_npz(tmp_path / folder / f"{kind}_{planet}.npz", kind) for folder in ("here", "there"))
            assert all(np.array_equal(here[name], there[name]) for name in here)


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (Workers(1, "thread"), "chain.executor: 'thread' is unknown. Fix: did you mean 'threads'"),
        (Workers(1, "dask", "tcp://127.0.0.1:9"), "no dask scheduler answers at 'tcp://127.0.0.1:9'"),
        (Workers(1, "dask", ""), "no dask scheduler answers at ''"),
    ],
)
@pytest.mark.slow
def test_an_executor_that_cannot_be_had_is_one_clear_line(workers: Workers, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        map_planets(square, PLANETS, workers, "squares")
    assert said in str(caught.value) and "\n" not in str(caught.value)


# --- Fifty planets, some of them broken --------------------------------------------------------------------------

OF_ONE_PLANET = [name for name in SPOIL if name.split()[0] in ("signal", "odd", "calibration", "a", "zero", "NaN")]
OF_ONE_PLANET.remove("NaN star")


def fifty(tiny: RawFolder, root: Path) -> list[int]:
    """Fifty training planets: links to one, with their own rows in the tables. Returns their ids."""
    (original,) = tiny.planets_on_disk("train")
    planets = list(range(1, 51))
    for planet in planets:
        shutil.copytree(tiny.root / "train" / str(original), root / "train" / str(planet), copy_function=os.link)
    for path in tiny.root.iterdir():
        if path.suffix in (".csv", ".parquet") and not path.name.startswith("test"):
            table = pd.read_csv(path) if path.name in ("train_star_info.csv", "train.csv") else None
            if table is None:
                os.link(path, root / path.name)
            else:
                pd.concat([table] * 50).assign(planet_id=planets).to_csv(root / path.name, index=False)
    return planets


def damage_a_page(broken: Broken) -> None:
    """Bytes in the middle of a signal file turned over: the footer is in order and shows nothing."""
    path = broken.path("FGS1_signal_0.parquet")
    content = bytearray(path.read_bytes())
    middle = slice(len(content) // 4, len(content) // 2)
    content[middle] = bytes(255 - byte for byte in content[middle])
    broken.replace(path.name, bytes(content))


def star(planet: int, column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[table.planet_id == planet, column] = value
        return table

    return change


def star_tables(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame], count: int = 12) -> RawFolder:
    """A raw folder with nothing in it but a table of stars of test planets 0, 1, ..."""
    table = pd.DataFrame([draw_system(np.random.default_rng(seed)).row() for seed in range(count)])
    table.insert(0, "planet_id", range(count))
    change(table).to_csv(root / "test_star_info.csv", index=False)
    return RawFolder(root)


UNITS: dict[str, tuple[str, Callable[[pd.Series], float]]] = {  # what one row is damaged by, and what is said of it
    "it looks like AU": ("sma", lambda row: row["sma"] * row["Rs"] / AU_IN_SOLAR_RADII),
    "it looks like km": ("sma", lambda row: row["sma"] * row["Rs"] * SOLAR_RADIUS_KM),
    "it looks like radians": ("i", lambda row: np.radians(row["i"])),
    "it looks like the cosine of i": ("i", lambda row: np.cos(np.radians(row["i"]))),
    "it looks like hours": ("P", lambda row: 24 * row["P"]),
    "it looks like seconds": ("P", lambda row: 86_400 * row["P"]),
    "it looks like years": ("P", lambda row: row["P"] / 365.25),
    "Rs: planet 3: is": ("Rs", lambda row: row["Rs"] * SOLAR_RADIUS_KM),
    "it looks like Jupiter radii": ("Rs", lambda row: row["Rs"] * 9.731),
    "it looks like kg": ("Ms", lambda row: row["Ms"] * 1.98841e30),
    "it looks like degrees Fahrenheit": ("Ts", lambda row: row["Ts"] * 1.8 - 459.67),
    "it looks like percent": ("e", lambda row: 12.0),
    "sma_err: planet 3: is 0, not a standard deviation": ("sma_err", lambda row: 0.0),
}


@pytest.mark.parametrize("said", UNITS)
def test_one_star_in_another_unit_costs_its_planet_alone(said: str, tmp_path: Path) -> None:
    column, damage = UNITS[said]

    def one_row(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[3, column] = damage(table.loc[3])
        return table

    raw = star_tables(tmp_path, one_row)
    (failure,) = check_rows(raw, {"test": list(range(12))})
    assert failure.planet == 3 and f"{column}: planet 3: " in failure.problem and said in failure.problem
    assert "test_star_info.csv" in failure.problem and ". Fix: give" in failure.problem
    others = [planet for planet in range(12) if planet != 3]
    assert raw.star_info("test", others).index.tolist() == others


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("sma: the whole column: .* it looks like solar radii", lambda t: t.assign(sma=t["sma"] * t["Rs"])),
        ("P: the whole column: .* it looks like hours", lambda t: t.assign(P=24 * t["P"])),
        ("Mp: the whole column: .* it looks like Earth masses", lambda t: t.assign(Mp=317.8 * t["Mp"])),
    ],
)
def test_a_column_in_another_unit_costs_all_its_planets(said: str, change: Any, tmp_path: Path) -> None:
    failures = check_rows(star_tables(tmp_path, change, 40), {"test": list(range(40))})
    assert len(failures) == 40 and all(re.search(said, one.problem) for one in failures)


def test_no_star_of_the_challenge_s_population_is_refused(tmp_path: Path) -> None:
    raw = star_tables(tmp_path, lambda table: table.assign(P_err=1e-4, i_err=[np.nan, *[0.3] * 999]), 1000)
    assert check_rows(raw, {"test": list(range(1000))}) == []
    assert raw.star_info("test", [0, 7])["i_err"].isna().tolist() == [True, False]


def test_a_planet_in_both_splits_is_refused_in_each(tiny: RawFolder, tmp_path: Path) -> None:
    """Its frames would stand beside the star of the other, and its label would be known."""
    root = Path(shutil.copytree(tiny.root, tmp_path / "raw"))
    (planet,), others = tiny.planets_on_disk("train"), tiny.planets_on_disk("test")
    (root / f"test/{planet}").symlink_to(root / f"train/{planet}")
    found = check_rows(RawFolder(root), {"train": [planet], "test": [planet, *others]})
    assert [(one.split, one.planet) for one in found] == [("train", planet), ("test", planet)]
    assert all(f"planet {planet} is in train/ and in test/. Fix:" in one.problem for one in found)


@pytest.mark.slow
def test_bad_planets_among_fifty_do_not_stop_the_others(tiny: RawFolder, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    planets = fifty(tiny, root)
    wanted = {}
    for planet, case in enumerate(OF_ONE_PLANET, start=2):
        spoil, wanted[planet] = SPOIL[case]
        spoil(Broken(root, planet))
    damage_a_page(Broken(root, 40))
    wanted[40] = "FGS1_signal_0.parquet: file: truncated or not a parquet file"
    spoilt = Broken(root, 0)
    for planet, column, value, said in (
        (41, "Rs", np.nan, "Rs: planet 41"),
        (42, "sma", "far", "planet 42 has 'far'"),
        (43, "planet_id", 9999, "planet 43 has a folder but no row"),
        (44, "planet_id", 45, "planet 44 has a folder but no row"),
    ):
        spoilt.table("train_star_info.csv", star(planet, column, value))
        wanted[planet] = said
    wanted[45] = "planet 45 stands twice"
    spoilt.table("train.csv", star(46, "wl_9", -1))
    wanted[46] = "wl_9: planet 46"
    calibrate_run(tmp_path / "run", root, [], Options(), Keep(0), Workers(2))
    extract_run(tmp_path / "run", root, Steps(50, 50), Photometry(), 5, 0, Workers(2))
    failed = read_failures(tmp_path / "run")
    assert set(failed) == set(wanted)
    for planet, said in wanted.items():
        assert pd.Series([failed[planet]]).str.contains(said).all(), failed[planet]
        assert "\n" not in failed[planet] and ". Fix: " in failed[planet]
    features = tmp_path / "run/01_features/artifacts/features"
    assert {int(path.stem.split("_")[-1]) for path in features.glob("airs_bins_*.npz")} == {*planets} - {*wanted}
    assert not list((tmp_path / "run").rglob("*.part"))
