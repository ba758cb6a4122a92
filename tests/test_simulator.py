"""The simulator: files against contracts and real ones, noise and population against public figures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from spectramind_nb.core.contracts import SUBMISSION_COLUMNS, WAVELENGTH_COLUMNS, read_table
from spectramind_nb.core.errors import UserError
from spectramind_nb.core.instrument import ADC_GAIN, ADC_OFFSET, AIRS, CHANNELS, FGS1, SATURATION_E
from spectramind_nb.core.star_table import kepler_axis
from spectramind_nb.detector.photometry import star_centre
from spectramind_nb.detector.raw import RawFolder, choose_planets, read_adc, read_calibration
from spectramind_nb.detector.signal_files import read_signal
from spectramind_nb.detector.time_axis import read_pair_times
from spectramind_nb.simulator.atmosphere import OOD_GASES
from spectramind_nb.simulator.data_sets import (
    FRAME_COUNTS,
    draw_planets,
    frame_hours,
    random_planet_ids,
    simulate_dataset,
    visit_files,
    visit_transit,
)
from spectramind_nb.simulator.detector import draw_detector
from spectramind_nb.simulator.disturbances import Disturbances
from spectramind_nb.simulator.frames import (
    Exposure,
    airs_profile,
    expose,
    fgs1_image,
    measured_charge,
    poisson,
    prepare_exposure,
)
from spectramind_nb.simulator.population import (
    PlanetSpectrum,
    SimulatedOrbit,
    draw_limb_darkening,
    draw_planet,
    draw_system,
    observe,
    planet_stream,
    transit_flux,
)
from spectramind_nb.simulator.world_parts import Optics
from spectramind_nb.simulator.worlds import World

REAL = Path(__file__).parents[2] / "shared" / "real_sample"
REAL_STAR_K = 4797.6  # of planet 342072318, train_star_info.csv
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real sample of the challenge on this machine")


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFolder:
    root = tmp_path_factory.mktemp("simulated") / "raw"
    simulate_dataset(root, planets=2, test_planets=1, seed=3, frames="tiny", workers=2)
    return RawFolder(root)


def linearised(adu: np.ndarray, corr: np.ndarray) -> np.ndarray:
    """Electrons a read, (pairs, 2, pixels)."""
    electrons = adu / ADC_GAIN + ADC_OFFSET
    return np.polynomial.polynomial.polyval(electrons, corr.reshape(6, -1), tensor=False)


def test_every_file_keeps_its_contract(raw: RawFolder) -> None:
    frames = FRAME_COUNTS["tiny"]
    for split, count in (("train", 2), ("test", 1)):
        labels = choose_planets(raw, split)
        assert len(labels) == count
        for label in labels:
            folder = raw.planet_folder(split, label)
            for visit in raw.visits(split, label):
                for name, channel in CHANNELS.items():
                    adu = read_signal(folder / f"{name}_signal_{visit}.parquet", channel)
                    first = read_signal(folder / f"{name}_signal_{visit}.parquet", channel, most=2)
                    assert np.array_equal(first, adu[:2])
                    assert adu.shape == (frames.pairs(channel), 2, channel.rows, channel.columns)
                    calibration = read_calibration(folder / f"{name}_calibration_{visit}", channel)
                    assert calibration.linear_corr.shape == (6, channel.rows, channel.columns)
                    hours = read_pair_times(raw, channel, len(adu))
                    assert len(hours) == len(adu) and (np.diff(hours) > 0).all()
                    adc = read_adc(raw, channel, label)
                    assert (adc.gain, adc.offset) == (ADC_GAIN, ADC_OFFSET)
    labels, truth = raw.labels(), read_table(raw.root / "truth.csv", WAVELENGTH_COLUMNS)
    assert labels is not None and labels.shape == (2, 283) and truth.shape == (1, 283)
    assert list(pd.read_csv(raw.root / "sample_submission.csv").columns[1:]) == list(SUBMISSION_COLUMNS["challenge"])
    record = json.loads((raw.root / "simulation.json").read_text())
    assert record["seed"] == 3 and set(record["truth"]["train"]) == set(map(str, labels.index))


@needs_real
def test_schemas_are_those_of_the_real_files(raw: RawFolder) -> None:
    ours = raw.planet_folder("train", raw.planets_on_disk("train")[0])
    (real,) = (REAL / "train").iterdir()
    for name in CHANNELS:
        for part in ("dark", "dead", "flat", "linear_corr", "read"):
            path = Path(f"{name}_calibration_0") / f"{part}.parquet"
            found, wanted = pq.ParquetFile(ours / path), pq.ParquetFile(real / path)
            assert found.schema_arrow.equals(wanted.schema_arrow, check_metadata=False)
            assert found.metadata.num_rows == wanted.metadata.num_rows
        signal = f"{name}_signal_0.parquet"
        types = [set(pq.read_schema(folder / signal).types) for folder in (ours, real)]
        assert types[0] == types[1]
    for table in ("train_star_info", "test_star_info", "sample_submission", "adc_info", "wavelengths"):
        ours_and_real = [list(pd.read_csv(root / f"{table}.csv", nrows=1)) for root in (raw.root, REAL)]
        assert ours_and_real[0] == ours_and_real[1]
    assert np.allclose(pd.read_csv(raw.root / "wavelengths.csv"), pd.read_csv(REAL / "wavelengths.csv"), atol=1e-9)
    axes, real_axes = pd.read_parquet(raw.root / "axis_info.parquet"), pd.read_parquet(REAL / "axis_info.parquet")
    assert axes.dtypes.equals(real_axes.dtypes)
    assert np.allclose(axes["AIRS-CH0-axis2-um"].dropna(), real_axes["AIRS-CH0-axis2-um"].dropna(), atol=1e-8)
    for channel in CHANNELS.values():
        hours = real_axes[f"{channel.name}-axis0-h"].dropna()
        assert np.allclose(frame_hours(FRAME_COUNTS["full"], channel), hours, atol=1e-9)


def test_same_seed_same_bytes_whatever_the_company(raw: RawFolder, tmp_path: Path) -> None:
    simulate_dataset(tmp_path / "raw", planets=1, test_planets=0, seed=3, frames="tiny", workers=1)
    (label,) = RawFolder(tmp_path / "raw").planets_on_disk("train")
    ours, theirs = (visit_files(root / "train" / str(label), 0) for root in (tmp_path / "raw", raw.root))
    assert [p.read_bytes() for p in ours] == [p.read_bytes() for p in theirs]


def test_splits_and_seeds_never_share_planets() -> None:
    ids = [set(random_planet_ids(seed, split, 300)) for seed in (0, 1) for split in ("train", "test")]
    assert len(set.union(*ids)) == 1200
    systems = [draw_planet(planet_stream(seed, split, 0, 1)).system for seed in (0, 1) for split in ("train", "test")]
    assert len(set(systems)) == 4
    assert random_planet_ids(0, "train", 300)[:10] == random_planet_ids(0, "train", 10)


def test_frames_do_not_depend_on_the_chunk() -> None:
    exposure = prepare_exposure(rng(0), FGS1, np.ones((9, 1)), 5887.0, 1.0)
    whole, pieces = (np.concatenate(list(expose(rng(1), exposure, chunk))) for chunk in (9, 4))
    assert np.array_equal(whole, pieces)


def test_other_data_is_never_overwritten(raw: RawFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"another simulation .*seed.* Fix:"):
        simulate_dataset(raw.root, planets=2, test_planets=1, seed=4, frames="tiny")
    (tmp_path / "train.csv").touch()
    with pytest.raises(UserError, match="Fix: choose an empty folder"):
        simulate_dataset(tmp_path, planets=1, test_planets=1, seed=0, frames="tiny")
    with pytest.raises(UserError, match="'huge' is unknown"):
        simulate_dataset(tmp_path / "new", planets=1, test_planets=1, seed=0, frames="huge")


def test_an_unfinished_planet_is_finished(raw: RawFolder, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    arguments = {"planets": 1, "test_planets": 0, "seed": 3, "frames": "tiny"}
    simulate_dataset(tmp_path / "raw", **arguments)  # type: ignore[arg-type]
    lost = next((tmp_path / "raw" / "train").glob("*/FGS1_signal_0.parquet"))
    before = lost.read_bytes()
    lost.unlink()
    simulate_dataset(tmp_path / "raw", **arguments, progress=lambda *done: reports.append(done))  # type: ignore[arg-type]
    assert lost.read_bytes() == before and reports == [("train planets drawn", 1, 1), ("planets", 1, 1)]


@pytest.mark.parametrize("mean", [0.3, 5.0, 15.0, 17.0, 80.0])
def test_photon_noise_is_poisson(mean: float) -> None:
    generator = rng(0)
    draws = np.array([poisson(generator, mean) for _ in range(50_000)])
    assert draws.mean() == pytest.approx(mean, rel=0.01)
    assert draws.var() == pytest.approx(mean, rel=0.03)
    assert ((draws - draws.mean()) ** 3).mean() == pytest.approx(mean, rel=0.3)
    assert (draws >= 0).all() and (draws == np.rint(draws)).all()


@pytest.mark.parametrize("channel", [AIRS, FGS1])
def test_nonlinearity_there_and_back(channel) -> None:
    corr = draw_detector(rng(2), channel).linear_corr.reshape(6, -1).T
    charge = rng(3).uniform(0, 1.2 * SATURATION_E, len(corr))
    measured = np.array([measured_charge(*pair) for pair in zip(charge, corr, strict=True)])
    assert np.allclose(np.polynomial.polynomial.polyval(measured, corr.T, tensor=False), charge, rtol=1e-8, atol=1e-3)


def test_star_images_hold_the_light_that_real_ones_hold() -> None:
    image = fgs1_image(0, 0, 0)
    windows = np.lib.stride_tricks.sliding_window_view
    boxes = [windows(image, (size, size)).sum(axis=(2, 3)).max() for size in (4, 6, 8, 10, 12, 16)]
    assert np.allclose(boxes, (0.728, 0.856, 0.906, 0.933, 0.949, 0.969), atol=0.01)
    assert image.max() == pytest.approx(0.098, abs=0.003)
    rows = -np.sort(-airs_profile(np.array([2.0, 3.8])), axis=0).cumsum(axis=0)[[1, 3, 7, 15]]
    assert np.allclose(rows.T, [(0.64, 0.84, 0.95, 0.99), (0.44, 0.73, 0.89, 0.97)], atol=0.035)


@pytest.fixture(scope="module")
def quiet() -> tuple[Exposure, np.ndarray]:
    """FGS1 without transit, jitter or cosmic rays: (1500 pairs, 2 reads, pixels) in electrons."""
    drawn = prepare_exposure(rng(5), FGS1, np.ones((1500, 1)), 5887.0, 1.0)
    still = {"light": np.ones((1500, 1)), "wander": np.zeros((1500, 3)), "jitter": np.zeros(4), "ray_rate": 0.0}
    exposure = replace(drawn, **still, bad_last_pair=False)
    adu = np.concatenate(list(expose(rng(6), exposure, 500)))
    return exposure, linearised(adu, exposure.detector.linear_corr)


def test_second_read_holds_the_charge_of_the_first(quiet: tuple[Exposure, np.ndarray]) -> None:
    exposure, electrons = quiet
    difference = electrons[:, 1] - electrons[:, 0]
    read_variance = exposure.detector.read.ravel() ** 2
    pixels = (difference.mean(axis=0) > 300) & (difference.mean(axis=0) < 5000)
    photons = (difference.var(axis=0) - 2 * read_variance)[pixels].sum() / difference.mean(axis=0)[pixels].sum()
    assert photons == pytest.approx(1, abs=0.05)  # 3 if the reads were independent
    covariance = ((electrons - electrons.mean(axis=0)).prod(axis=1)).mean(axis=0)[pixels].sum()
    assert covariance / electrons[:, 0].mean(axis=0)[pixels].sum() == pytest.approx(1, abs=0.1)


def test_adc_rounds_down(quiet: tuple[Exposure, np.ndarray]) -> None:
    _, electrons = quiet
    first, difference = electrons[:, 0].mean(axis=0), (electrons[:, 1] - electrons[:, 0]).mean(axis=0)
    assert np.median(first - difference) == pytest.approx(-0.5 / ADC_GAIN, abs=0.3)


@pytest.mark.parametrize(("channel", "ratio"), [(AIRS, 46.0), (FGS1, 2.0)])
def test_charge_grows_with_the_time_since_reset(channel, ratio: float) -> None:
    columns = channel.columns if channel == AIRS else 1
    exposure = prepare_exposure(rng(7), channel, np.ones((30, columns)), 5887.0, 1.0)
    electrons = linearised(next(expose(rng(8), exposure, 29)), exposure.detector.linear_corr).mean(axis=0)
    bright = electrons[1] > 2000
    assert electrons[1][bright].sum() / electrons[0][bright].sum() == pytest.approx(ratio, rel=0.01)


@needs_real
def test_frames_look_like_real_ones() -> None:
    (real,) = (REAL / "train").iterdir()
    for name, channel in CHANNELS.items():
        adu = read_signal(real / f"{name}_signal_0.parquet", channel)
        corr = read_calibration(real / f"{name}_calibration_0", channel).linear_corr
        columns = channel.columns if channel == AIRS else 1
        exposure = prepare_exposure(rng(9), channel, np.ones((26, columns)), REAL_STAR_K, 1.0)
        ours = linearised(next(expose(rng(10), exposure, 25)), exposure.detector.linear_corr)
        theirs = linearised(adu.reshape(len(adu), 2, -1), corr)
        (mean, scatter), (real_mean, real_scatter) = (
            (cds.mean(axis=0), cds.std(axis=0)) for cds in (np.diff(reads, axis=1)[:, 0] for reads in (ours, theirs))
        )
        assert 0.93 < mean.sum() / real_mean.sum() < 1.07
        levels = [np.log10(np.quantile(image, (0.5, 0.9, 0.99))) for image in (mean, real_mean)]
        assert np.allclose(*levels, atol=0.12 if channel == AIRS else 0.25)
        assert np.median(scatter) == pytest.approx(np.median(real_scatter), rel=0.1)


def test_injected_depth_is_in_the_light_curve() -> None:
    hours, central = np.linspace(0, 7.5, 301), SimulatedOrbit(3.75, 5.0, 10.5, 90.0)
    spectrum = np.linspace(0.005, 0.02, 283)
    flux = transit_flux(hours, central, spectrum, np.zeros((283, 2)))
    assert np.allclose(1 - flux.min(axis=0), spectrum, rtol=1e-9) and flux.max() == 1
    assert (flux[0] == 1).all() and central.duration_h(0.01) == pytest.approx(np.ptp(hours[flux[:, 100] < 1]), abs=0.1)
    label, planet = next(iter(draw_planets(0, "train", 1).items()))
    sharp = Disturbances(World(optics=Optics(line_shape=0)))
    columns = visit_transit(planet, 0, AIRS, hours, sharp)
    assert columns.shape == (301, 356) and label % 2 == 0
    expected = transit_flux(hours, planet.orbits[0], planet.spectrum, planet.limb)[:, 1:]
    assert np.allclose(columns[:, 39:321][:, ::-1], expected)


def test_population_is_the_challenges() -> None:
    source = rng(11)
    systems = [draw_system(source) for _ in range(5000)]
    table = pd.DataFrame([system.row() for system in systems])
    figures = {  # least, median, largest
        "Rs": (0.6538, 1.231, 2.887),
        "Ms": (0.599, 1.097, 1.82),
        "Ts": (4235, 5887, 6979),
        "Mp": (0.049, 0.936, 24.7),
        "P": (2.78, 5.20, 7.614),
        "sma": (4.23, 10.54, 20.95),
        "i": (85.56, 88.51, 90),
    }
    for name, (least, median, largest) in figures.items():
        assert table[name].median() == pytest.approx(median, rel=0.003 if name == "i" else 0.05), name
        assert least <= table[name].min() and table[name].max() <= largest, name
    ratio = table["sma"] / [kepler_axis(system.Ms, system.Rs, system.P) for system in systems]
    assert np.allclose(ratio.quantile([0.01, 0.5, 0.99]), (0.86, 1.002, 1.19), atol=0.03)
    assert (ratio - 1).abs().median() > 0.02  # sma isn't Kepler's
    correlation = table.corr("spearman")
    assert correlation.loc["Rs", "Ms"] == pytest.approx(0.85, abs=0.04)
    assert correlation.loc["Ms", "Ts"] == pytest.approx(0.84, abs=0.06)


@needs_real
def test_population_is_that_of_the_real_star_table() -> None:
    real = pd.read_csv(REAL / "train_star_info.csv")
    source = rng(12)
    table = pd.DataFrame([draw_system(source).row() for _ in range(5000)])
    for stars in (real, table):
        stars["b"] = stars["sma"] * np.cos(np.radians(stars["i"]))
    widths = {"Rs": 0.05, "Ms": 0.03, "Ts": 0.01, "Mp": 0.12, "P": 0.03, "sma": 0.06, "i": 0.002}
    for name, width in widths.items():
        ours, theirs = (stars[name].quantile([0.05, 0.25, 0.5, 0.75, 0.95]) for stars in (table, real))
        assert np.allclose(ours, theirs, rtol=width), name
    assert np.allclose(*(stars["b"].quantile([0.25, 0.5, 0.75, 0.95]) for stars in (table, real)), atol=0.05)


def test_visits_differ_as_the_challenges_do() -> None:
    source, drawn = rng(13), PlanetSpectrum(draw_system(rng(14)), {}, np.full(283, 0.0147))
    planets = [observe(source, drawn) for _ in range(3000)]
    assert np.mean([len(planet.orbits) for planet in planets]) == pytest.approx(1.1, abs=0.02)
    twice = next(planet for planet in planets if len(planet.orbits) == 2)
    assert twice.orbits[0].t0_h != twice.orbits[1].t0_h and twice.orbits[0].sma == twice.orbits[1].sma
    middle = np.array([orbit.t0_h for planet in planets for orbit in planet.orbits])
    assert middle.min() >= 3 and middle.max() <= 4.5 and middle.std() == pytest.approx(1.5 / np.sqrt(12), rel=0.05)
    delay = np.abs([delay for planet in planets for delay in planet.fgs1_delay_h])
    assert np.quantile(delay, 0.9) < 0.002 and delay.max() <= 0.015
    limb = np.array([draw_limb_darkening(source, 5887) for _ in range(500)])
    assert limb[:, 0, 0].mean() == pytest.approx(0.40, abs=0.02)
    assert limb[:, 1:, 0].mean() == pytest.approx(0.12, abs=0.01)


def test_out_of_distribution_planets_differ_where_told() -> None:
    plain, odd = (draw_planets(0, "test", 1, ood) for ood in (False, True))
    ((plain_planet, odd_planet),) = zip(plain.values(), odd.values(), strict=True)
    assert plain_planet.system == odd_planet.system
    strange = [max(planet.atmosphere[f"log10_{gas}"] for gas in OOD_GASES) for planet in (plain_planet, odd_planet)]
    assert strange[0] == -20 and strange[1] > -6
    assert draw_detector(rng(0), AIRS, ood=True).dead.mean() == pytest.approx(0.011, abs=0.003)
    assert (draw_detector(rng(0), AIRS, ood=True).dark > 0.0118).mean() == pytest.approx(0.017, abs=0.004)
    train, train_beside_odd = (draw_planets(0, "train", 1, ood) for ood in (False, True))
    assert [p.system for p in train.values()] == [p.system for p in train_beside_odd.values()]


def test_the_star_stands_where_the_pointing_says() -> None:
    """A steady shift of less than a grid step moves the mean frame's centre along the right axes."""
    shift, pairs = np.array([0.04, -0.03, 0.0]), 400
    drawn = prepare_exposure(rng(5), FGS1, np.ones((pairs, 1)), 5887.0, 1.0)
    still = {"light": np.ones((pairs, 1)), "wander": np.tile(shift, (pairs, 1)), "jitter": np.zeros(4), "ray_rate": 0.0}
    exposure = replace(drawn, **still, bad_last_pair=False)
    detector = exposure.detector
    electrons = linearised(np.concatenate(list(expose(rng(6), exposure, 200))), detector.linear_corr)
    rate = (electrons[:, 1] - electrons[:, 0]).mean(axis=0) / FGS1.exposure_s - exposure.background
    image = rate.reshape(32, 32) / np.where(detector.dead, 1, detector.response)
    found, wanted = (star_centre(np.where(detector.dead, 0, x)) for x in (image, fgs1_image(0.04, -0.03, 0)))
    assert found == pytest.approx(wanted, abs=0.01)
