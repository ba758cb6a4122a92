"""Corrections of predictions by figures of their fits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from spectramind_nb.core.errors import ContractError
from spectramind_nb.core.files import network_file
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.network.fit_evidence import (
    APPLIED,
    FIT_FIGURES,
    MOST_FIT_NATS,
    EvidenceNetwork,
    apply_evidence,
    channel_figures,
    fit_figures,
    start_figures,
)
from spectramind_nb.network.model import network_start
from spectramind_nb.network.weights import Weights, read_network, write_network
from spectramind_nb.pipeline.predictors import predict_both
from spectramind_nb.uncertainty.sigma_factors import Fits, take_planets

LAPTOP = read_network(network_file("laptop"))
PLANETS = 6


def fits_with(figures: np.ndarray | None) -> Fits:
    rng = np.random.default_rng(3)
    depth = LAPTOP.prior.mean_depth + 1e-4 * rng.normal(size=(PLANETS, N_BINS))
    covariance = np.tile(1e-8 * np.eye(N_BINS) + 1e-10, (PLANETS, 1, 1))
    stars = pd.DataFrame({"Ts": np.full(PLANETS, 5800.0)})
    return Fits(np.arange(PLANETS), depth, covariance, stars, pd.DataFrame(index=range(PLANETS)), figures=figures)


def figures_of(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(PLANETS, len(FIT_FIGURES))).astype(np.float32)


def stirred(seed: int = 0) -> EvidenceNetwork:
    """A network that corrects by something."""
    torch.manual_seed(seed)
    count = len(FIT_FIGURES) + start_figures(network_start(LAPTOP.prior, fits_with(None))).shape[1]
    network = EvidenceNetwork(count).eval()
    with torch.no_grad():
        network.last.normal_(0, 0.5)
    return network


def evidence(noise: np.ndarray | None = None) -> dict[str, dict[str, list]]:
    noise = np.zeros((1, 45)) if noise is None else noise
    channels = ("fgs1", "airs")
    parts = {"noise": noise, "drift": np.zeros((1, 8)), "jump": np.array([-1.5])}
    return {kind: {channel: values.tolist() for channel in channels} for kind, values in parts.items()}


def test_figures_follow_the_evidence() -> None:
    red = np.full((1, 45), -40.0)
    red[0, 0], red[0, 1 + 2 * 11 + 7] = -20.0, 0.0  # third memory, eighth size
    names = ("red", "memory", "size", "jump", "drift", "drift_form")
    found = dict(zip(names, channel_figures(evidence(red), "airs"), strict=True))
    assert found["red"] == pytest.approx(20 - np.log(44)) and found["jump"] == -1.5
    assert found["memory"] == pytest.approx(2) and found["size"] == pytest.approx(7)
    assert found["drift"] == pytest.approx(0) and found["drift_form"] == 0
    red[0, 0] = -1000
    assert channel_figures(evidence(red), "fgs1")[0] == MOST_FIT_NATS


@pytest.mark.parametrize("lost", ["quality", "shared", "evidence", "shared_std"])
def test_a_file_without_evidence_has_no_figures(lost: str) -> None:
    names = [name for name in FIT_FIGURES if not name.endswith(" error")]
    record = {"quality": dict.fromkeys(names, 1.0), "evidence": evidence()}
    record |= {"shared": dict.fromkeys(names, 2.0), "shared_std": dict.fromkeys(names, 0.1)}
    whole = fit_figures(record)
    assert np.isfinite(whole).all() and whole[FIT_FIGURES.index("sma")] == 2
    assert whole[FIT_FIGURES.index("sma error")] == pytest.approx(np.log(0.1))
    del record[lost]
    assert np.isnan(fit_figures(record)).all()


def test_corrections_are_bounded_and_planets_do_not_touch() -> None:
    network, figures = stirred(), torch.from_numpy(1e3 * np.random.default_rng(1).normal(size=(50, 80))).float()
    network = EvidenceNetwork(80).eval()
    with torch.no_grad():
        network.last.normal_(0, 100)
    shift, log = network(figures)
    assert shift.abs().max() <= 2 and log.abs().max() <= 1 and shift.std() > 0.1 and log.std() > 0.1
    figures[7, 3] = torch.nan
    again = network(figures)
    assert not again[0][7].any() and not again[1][7].any()
    others = torch.arange(50) != 7
    assert torch.equal(again[0][others], shift[others])


def test_predictions_follow_the_figures_of_their_own_fits() -> None:
    weights, figures = replace(LAPTOP, evidence=stirred()), figures_of()
    plain = predict_both(replace(LAPTOP, evidence=None), fits_with(figures))
    found, unknown = (predict_both(weights, fits_with(given)) for given in (figures, None))
    assert np.array_equal(unknown["neural"].mu, plain["neural"].mu)
    assert np.array_equal(found["gaussian"].mu, plain["gaussian"].mu)
    shift = (found["neural"].mu - plain["neural"].mu)[:, 1:]
    assert np.abs(shift).max() > 1e-7 and np.allclose(shift, shift[:, :1])  # the AIRS mean alone
    some = np.arange(PLANETS) % 2 == 0
    alone = predict_both(weights, take_planets(fits_with(figures), some))
    assert np.allclose(alone["neural"].mu, found["neural"].mu[some], rtol=1e-6)
    assert np.allclose(alone["neural"].mean_variance, found["neural"].mean_variance[some], rtol=1e-5)


def test_factors_act_on_all_parts_of_the_variance() -> None:
    network, fits = stirred(), fits_with(figures_of())
    start = network_start(LAPTOP.prior, fits)
    with torch.no_grad():
        network.last.zero_()
        network.level[:] = torch.atanh(torch.tensor([0.0, 0.0, 0.1, 0.2, -0.3]))
    found, before = apply_evidence(network, start, fits.figures, start.combined), start.combined
    assert np.allclose(found.fgs1_variance, np.exp(0.2 * APPLIED) * before.fgs1_variance)
    assert np.allclose(found.mean_variance, np.exp(0.4 * APPLIED) * before.mean_variance)
    assert np.allclose(found.shape_variance, np.exp(-0.6 * APPLIED) * before.shape_variance)
    assert np.allclose(found.cross, np.exp(-0.1 * APPLIED) * before.cross) and np.array_equal(found.mean, before.mean)


def test_weights_keep_the_network_of_evidence(tmp_path: Path) -> None:
    path = write_network(tmp_path / "with.safetensors", replace(LAPTOP, evidence=stirred()))
    again = read_network(path)
    assert again.evidence is not None
    figures = torch.from_numpy(np.random.default_rng(2).normal(size=(4, again.evidence.first.shape[1]))).float()
    assert all(torch.equal(x, y) for x, y in zip(again.evidence(figures), stirred()(figures), strict=True))
    none = write_network(tmp_path / "without.safetensors", replace(LAPTOP, evidence=None))
    assert read_network(none).evidence is None


def test_a_damaged_network_of_evidence_is_refused(tmp_path: Path) -> None:
    broken = stirred()
    broken.last = torch.nn.Parameter(torch.zeros(3, 2, 5))
    weights: Weights = replace(LAPTOP, evidence=broken)
    path = write_network(tmp_path / "broken.safetensors", weights)
    with pytest.raises(ContractError, match="not a readable network"):
        read_network(path)


def test_the_packages_weights_read_evidence() -> None:
    assert LAPTOP.evidence is not None
    fits = fits_with(figures_of())
    figures = start_figures(network_start(LAPTOP.prior, fits))
    assert LAPTOP.evidence.first.shape[1] == len(FIT_FIGURES) + figures.shape[1]
