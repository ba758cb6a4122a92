"""Results of the Gaussian predictor that a run keeps: the same, computed once, and never taken for another planet's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.prior.learning import learn_prior
from spectramind_nb.prior.posterior import Combined
from spectramind_nb.uncertainty import gaussian
from spectramind_nb.uncertainty.gaussian import combine_fits
from spectramind_nb.uncertainty.sigma_factors import Fits

RNG = np.random.default_rng(4)
TRUTH = 0.01 + 1e-4 * RNG.normal(size=(60, 1)) * np.linspace(-1, 1, N_BINS)
PRIOR, OTHER_PRIOR = learn_prior(TRUTH[:50]), learn_prior(TRUTH[10:])
STARS = pd.DataFrame({"Rs": [1.0, 0.8, 1.2], "Ts": 5000.0, "Mp": 1.0, "sma": [9.0, 8.0, np.nan]})


@pytest.fixture
def fits(tmp_path: Path) -> Fits:
    depth = TRUTH[:3] + 1e-4 * RNG.normal(size=(3, N_BINS))
    kept = np.array([tmp_path / "kept" / f"{k}.npz" for k in range(3)])
    covariance = np.tile(1e-8 * np.eye(N_BINS), (3, 1, 1))
    return Fits(np.arange(3), depth, covariance, STARS, pd.DataFrame(index=range(3)), kept=kept)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each posterior that is computed."""
    count, combine = list[int](), gaussian.combine
    monkeypatch.setattr(gaussian, "combine", lambda *a: (count.append(1), combine(*a))[1])
    return count


def same(one: Combined, other: Combined) -> bool:
    return all(np.array_equal(value, getattr(other, name)) for name, value in vars(one).items())


def test_a_kept_result_is_the_same_and_is_not_computed_again(fits: Fits, computed: list[int]) -> None:
    plain, first, second = combine_fits(PRIOR, fits), *(combine_fits(PRIOR, fits, keep=True) for _ in range(2))
    assert len(computed) == 6
    assert same(plain, first)
    assert same(first, second)


@pytest.mark.parametrize("change", ["prior", "depth", "covariance", "line_shape", "star", "version"])
def test_whatever_led_to_a_result_makes_it_another(
    fits: Fits, computed: list[int], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    combine_fits(PRIOR, fits, keep=True)
    changed = {
        "depth": {"depth": fits.depth + 1e-7},
        "covariance": {"covariance": fits.covariance * 1.001},
        "line_shape": {"line_shape": np.full(3, 0.2)},
        "star": {"stars": STARS.assign(Rs=1.1)},
    }
    other = replace(fits, **changed.get(change, {}))
    if change == "version":
        monkeypatch.setattr(gaussian, "PRIOR_VERSION", 0)
    prior = OTHER_PRIOR if change == "prior" else PRIOR
    assert same(combine_fits(prior, other, keep=True), combine_fits(prior, other))
    assert len(computed) == 9


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"not an archive"])
def test_a_damaged_file_is_replaced(fits: Fits, computed: list[int], content: bytes) -> None:
    whole = combine_fits(PRIOR, fits, keep=True)
    assert fits.kept is not None
    fits.kept[1].write_bytes(content)
    assert same(combine_fits(PRIOR, fits, keep=True), whole)
    assert len(computed) == 4
    assert same(combine_fits(PRIOR, fits, keep=True), whole)
    assert len(computed) == 4


def test_a_folder_that_cannot_be_written_costs_only_time(fits: Fits, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    assert same(combine_fits(PRIOR, fits, keep=True), combine_fits(PRIOR, fits))


def test_files_go_with_their_planets(fits: Fits, computed: list[int]) -> None:
    from spectramind_nb.uncertainty.sigma_factors import take_planets

    whole = combine_fits(PRIOR, fits, keep=True)
    some = combine_fits(PRIOR, take_planets(fits, np.array([False, True, True])), keep=True)
    assert len(computed) == 3
    assert np.array_equal(some.mean, whole.mean[1:])
