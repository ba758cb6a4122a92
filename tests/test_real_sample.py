"""Real bytes of the challenge: what is known of planet 342072318 comes out of our reading and calibration.

The figures are measured on the Ariel Data Challenge 2025 public data; the sample holds 25 pairs of reads a channel.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectramind_nb.chapters.calibration import Keep, calibrate_run
from spectramind_nb.core.contracts import WAVELENGTH_COLUMNS, check_arrays, read_table
from spectramind_nb.core.instrument import (
    ADC_GAIN,
    ADC_OFFSET,
    AIRS,
    CHANNELS,
    FGS1,
    airs_column_wavelengths,
    wavelengths,
)
from spectramind_nb.detector.corrections import (
    Options,
    Visit,
    adc_to_electrons,
    calibrate_pairs,
    calibrate_visit,
    hot_pixels,
    linearise,
    read_visit,
    typical_pair,
)
from spectramind_nb.detector.extraction import bin_features, extract_visit, white_features
from spectramind_nb.detector.raw import RawFolder
from spectramind_nb.detector.signal_files import read_signal
from spectramind_nb.pipeline.planets import Workers

REAL = Path(__file__).parents[2] / "shared" / "real_sample"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="no real sample of the challenge on this machine")
RAW, PLANET, PAIRS = RawFolder(REAL), 342072318, 25


@pytest.fixture(scope="module")
def visits() -> dict[str, Visit]:
    return {name: read_visit(RAW, "train", PLANET, 0, channel) for name, channel in CHANNELS.items()}


def charges(visit: Visit) -> np.ndarray:  # e-, (2 reads, live pixels)
    """Mean charge of both reads: decoded, linearised, without dark current."""
    reads, _ = linearise(adc_to_electrons(visit.signal, visit.adc), visit.calibration.linear_corr)
    dark = visit.calibration.dark * np.array(visit.channel.read_times_s)[:, None, None]
    return (reads - dark).mean(axis=0)[:, ~visit.calibration.dead]


def test_what_the_folder_holds(visits: dict[str, Visit]) -> None:
    assert RAW.planets_on_disk("train") == [PLANET] and RAW.visits("train", PLANET) == [0] and RAW.labels() is None
    assert PLANET in RAW.star_info("train").index and len(RAW.star_info("train")) == 1100
    for visit in visits.values():
        assert visit.signal.shape == (PAIRS, 2, visit.channel.rows, visit.channel.columns)
        assert (visit.adc.gain, visit.adc.offset) == (ADC_GAIN, ADC_OFFSET)
        assert np.diff(visit.time_h) * 3600 == pytest.approx(visit.channel.cycle_s, rel=1e-6)


@pytest.mark.parametrize("name", CHANNELS)
def test_one_long_column_is_the_same_as_a_frame_a_row(visits: dict[str, Visit], name: str, tmp_path: Path) -> None:
    channel, path = CHANNELS[name], tmp_path / "signal.parquet"
    assert pq.ParquetFile(REAL / f"train/{PLANET}/{name}_signal_0.parquet").metadata.num_columns == 1
    frames = visits[name].signal.reshape(2 * PAIRS, channel.pixels)
    names = [f"column_{k}" for k in range(channel.pixels)]
    pq.write_table(pa.table([pa.array(pixel) for pixel in frames.T], names=names), path)
    assert np.array_equal(read_signal(path, channel), visits[name].signal)


def test_wavelengths_are_exact() -> None:
    table = pd.read_csv(REAL / "wavelengths.csv")
    assert list(table.columns) == list(WAVELENGTH_COLUMNS)
    assert np.abs(table.to_numpy()[0] - wavelengths()).max() < 1e-12
    axis = pd.read_parquet(REAL / "axis_info.parquet")["AIRS-CH0-axis2-um"].dropna().to_numpy()
    assert np.abs(axis - airs_column_wavelengths()).max() < 1e-12


@pytest.mark.parametrize(("name", "known"), [("AIRS-CH0", 46.07), ("FGS1", 2.00)])
def test_second_read_holds_the_charge_of_its_time_since_reset(
    visits: dict[str, Visit], name: str, known: float
) -> None:
    first, second = charges(visits[name])
    bright = second > 10_000
    ratio = second[bright].sum() / first[bright].sum()
    noise = known / np.sqrt(PAIRS * first[bright].sum())  # photon noise of the first reads
    assert ratio == pytest.approx(known, abs=3 * noise)
    uncorrected = adc_to_electrons(visits[name].signal, visits[name].adc).mean(axis=0)[
        :, ~visits[name].calibration.dead
    ]
    assert uncorrected[1, bright].sum() / uncorrected[0, bright].sum() < ratio - 3 * noise  # linearity matters


def test_levels_of_the_first_and_the_brightest_pixel(visits: dict[str, Visit]) -> None:
    airs = visits["AIRS-CH0"]
    first = adc_to_electrons(airs.signal, airs.adc)[:, 0][:, ~airs.calibration.dead]
    assert np.median(first) == pytest.approx(7, abs=0.5)
    assert charges(airs)[1].max() == pytest.approx(61_000, rel=0.01)


def test_light_of_fgs1(visits: dict[str, Visit]) -> None:
    curves = extract_visit(visits["FGS1"], 1, Options())
    assert ((curves.flux > 2.1e5) & (curves.flux < 3.1e5)).all()
    assert np.median(curves.flux) == pytest.approx(2.2e5, rel=0.02)


def test_variance_is_that_of_charge_shared_by_both_reads(visits: dict[str, Visit]) -> None:
    visit, options = visits["FGS1"], Options()
    pairs = calibrate_pairs(visit, slice(None), typical_pair(visit, options), options)
    level = pairs.frames.mean(axis=0)
    faint = (level > 20) & (level < 60) & ~hot_pixels(visit.calibration)
    measured, predicted = pairs.frames.var(axis=0, ddof=1)[faint], pairs.variance.mean(axis=0)[faint]
    independent = predicted + 2 * level[faint]  # what it would be if the first charge were not part of the second
    assert faint.sum() > 50 and np.median(independent / predicted) > 1.15
    assert (measured / predicted).mean() == pytest.approx(1, abs=0.08)
    assert (measured / independent).mean() < 0.92


def test_the_whole_path_runs(visits: dict[str, Visit], tmp_path: Path) -> None:
    rows = calibrate_run(tmp_path / "run", REAL, [PLANET], Options(), Keep(1), Workers(1))
    assert [row["pairs"] for row in rows] == [PAIRS, PAIRS]
    steps, times = calibrate_visit(visits["AIRS-CH0"], 5, Options())
    assert steps.frames.shape == (5, 32, 356) and np.array_equal(np.isnan(steps.frames), steps.mask)
    assert (np.diff(times) > 0).all()
    fgs1, airs = (extract_visit(visits[channel.name], 5, Options()) for channel in (FGS1, AIRS))
    white, bins = white_features(fgs1, 5, 0), bin_features(airs, fgs1, 5, 0)
    check_arrays("white", "fgs1_white", white)
    check_arrays("bins", "airs_bins", bins)
    assert all(np.isfinite(array).all() for features in (white, bins) for array in features.values())
    bluest, reddest = bins["flux"][:, 1:5].mean(), bins["flux"][:, -4:].mean()
    assert reddest == pytest.approx(6e3, rel=0.3) and bins["flux"][:, 1:].max() == pytest.approx(1.5e5, rel=0.1)
    assert bluest > 5 * reddest
    scatter = airs.flux[:, 39:321].std(axis=0, ddof=1) / np.sqrt(airs.variance[:, 39:321].mean(axis=0))
    assert scatter.mean() == pytest.approx(1.05, abs=0.1)  # binned noise is 1.0 to 1.1 of photon noise


def test_labels_of_the_sample_submission_are_ours() -> None:
    assert len(read_table(REAL / "sample_submission.csv", WAVELENGTH_COLUMNS)) == 1
