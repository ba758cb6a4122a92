"""Sentences of the specification that no other test states: formulas of the training, names in the calibration log."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from test_calibration import expose, star
from test_network import CURVES_FGS1, SCALING, SMALL, START, TRUTH, network, outcome

from spectramind_nb.core.errors import UserError
from spectramind_nb.core.metric import BIN_WEIGHTS
from spectramind_nb.detector.corrections import Options, Visit
from spectramind_nb.detector.extraction import extract_visit
from spectramind_nb.detector.photometry import Photometry
from spectramind_nb.network.decoders import SigmaHead
from spectramind_nb.network.trainer import (
    Supervised,
    Trainer,
    TrainingData,
    TrainOptions,
    learning_rate_factor,
    likelihood_loss,
    select_rows,
    take_step,
    training_data,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return training_data(START, TRUTH, SCALING, CURVES_FGS1)


def test_the_log_of_a_visit_has_every_name_of_the_specification() -> None:
    """The specification's logs of the six steps, by the names that stand for them here."""
    visit = expose(np.random.default_rng(0), star(), 60)
    log = extract_visit(visit, 4, Options()).log
    steps = {
        "1 gain, offset, before and after": "adc_gain adc_offset_e raw_median_adu raw_median_e",
        "2 mask": "mask_fraction hot_fraction cold_fraction nan_fraction",
        "2 mask of pairs": "saturated_fraction persistence_fraction cosmic_fraction",
        "3 non-linearity": "linearity_median_ppm clipped_fraction",
        "4 dark, temperature proxy": "dark_median_e_s dark_max_e_s dark_over_usual",
        "5 flat, cross-hatch": "flat_mean flat_std flat_cross_hatch",
        "2 weights that fill masked pixels": "interp_kernel",
        "6 aperture, seam, throughput": "aperture_radii_px seam_bins throughput",
    }
    assert not [name for names in steps.values() for name in names.split() if name not in log]
    assert (log["adc_gain"], log["adc_offset_e"]) == (0.4369, -1000.0) and log["linearity_median_ppm"] == 0
    assert log["raw_median_adu"] == pytest.approx((log["raw_median_e"] + 1000) * 0.4369, abs=1)
    assert 0.9 < log["throughput"] <= 1 and not log["flat_cross_hatch"]
    circle = extract_visit(visit, 4, Options(), Photometry("aperture", 5.0)).log
    assert circle["interp_kernel"] == log["interp_kernel"] == [0.5, 0, 0.5]
    assert circle["aperture_radii_px"][0] == 5 < log["aperture_radii_px"][0]
    assert 15 < log["aperture_radii_px"][1] < log["aperture_radii_px"][2] < 23


def test_the_likelihood_is_the_specifications(data: TrainingData) -> None:
    """Appendix A, with the challenge's weights of the bins, but for the constant."""
    ours = network(stirred=0.05)
    answer = outcome(ours)
    sigma, residual = answer.sigma.double(), (data.error - answer.shift).double() / answer.sigma.double()
    theirs = 0.5 * (residual**2 + 2 * sigma.log() + math.log(2 * math.pi)) @ torch.tensor(BIN_WEIGHTS)
    found = likelihood_loss(ours, answer, data.error) + 0.5 * math.log(2 * math.pi)
    assert torch.allclose(found.double(), theirs / BIN_WEIGHTS.sum(), rtol=1e-5)


def test_sigma_is_a_softplus_above_its_floor() -> None:
    torch.manual_seed(0)
    raw = torch.linspace(-20, 20, 41)
    factor = SigmaHead(4, 4).positive(raw)
    shifted = factor - 1e-3
    assert (factor > 0).all() and torch.allclose(shifted[raw > 15], raw[raw > 15] + math.log(math.e - 1), atol=1e-5)
    assert torch.allclose(torch.expm1(shifted[15:26]), torch.exp(raw[15:26]) * (math.e - 1), rtol=1e-4)
    for floor in (1e-4, 1e-3):
        sigma = outcome(network(replace(SMALL, sigma_min=floor), stirred=0.3)).sigma
        assert (sigma >= floor * (1 - 1e-6)).all()


def test_coarser_levels_count_a_hundredth(data: TrainingData) -> None:
    ours = network(stirred=0.05).train()
    losses = [Supervised(ours, weight, 10.0).train()(data).item() for weight in (0.0, TrainOptions.aux_weight, 1.0)]
    assert losses[1] - losses[0] == pytest.approx((losses[2] - losses[0]) / 100, rel=1e-3) and losses[2] > losses[0]
    assert Supervised(ours, 1.0, 10.0).eval()(data).item() == pytest.approx(losses[0], rel=1e-5)


def test_the_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    rates = np.array([learning_rate_factor(step, 1000, 0.05) for step in range(1000)])
    assert np.allclose(np.diff(rates[:49]), 1 / 50) and rates.max() == 1
    angle = np.pi * (np.arange(50, 1000) - 50) / 950
    assert np.allclose(rates[50:], 0.5 * (1 + np.cos(angle)))
    schedule = Trainer(Supervised(network(), 0.0, 10.0), TrainOptions(warmup_steps=2000), 100_000, CPU).schedule
    assert [group["lr"] for group in schedule.optimizer.param_groups] == [1e-3 / 2000] * 2


def test_accumulated_batches_make_one_step(data: TrainingData) -> None:
    """Two batches of six and one of twelve move the weights alike; one of the six moves them otherwise."""
    after = []
    for rows in (torch.arange(12).chunk(1), torch.arange(12).chunk(2), [torch.arange(6)]):
        trainer = Trainer(Supervised(network(stirred=0.05), 0.0, 10.0), TrainOptions(), 10, CPU)
        for group in trainer.optimiser.param_groups:
            group["eps"] = 1.0  # steps in proportion to the gradient
        take_step(trainer, [select_rows(data, part, CPU) for part in rows], [1.0] * len(rows))
        after.append(torch.cat([value.flatten() for value in trainer.objective.parameters()]).detach())
    assert torch.allclose(after[0], after[1], atol=5e-7)
    assert (after[2] - after[0]).abs().max() > 1e-5


def transit_visit(foreground_e_s: float, dip: float, kind: int) -> Visit:
    """A visit of FGS1 whose star dims by `dip` in its second half; an even foreground does not."""
    image = star()
    wings = np.full(image.shape, 1.5e-5 * image.sum())
    visit = expose(np.random.default_rng(kind), image + wings + foreground_e_s, 240)
    dimmed = expose(np.random.default_rng(kind), (1 - dip) * (image + wings) + foreground_e_s, 240)
    visit.signal[120:] = dimmed.signal[120:]
    return visit


def test_an_annulus_gives_depths_that_no_foreground_dilutes() -> None:
    """The option `features.annulus_px`, as the specification has it: aperture sum less the mean of an annulus."""
    annulus = Photometry("aperture", 5.0, (10.0, 15.0))
    for foreground in (0.0, 5000.0):  # the second is 18% of the star's light in the aperture
        curves = extract_visit(transit_visit(foreground, 0.02, 1), 1, Options(), annulus)
        first, second = curves.flux[:110], curves.flux[130:]
        depth, noise = 1 - np.nanmean(second) / np.nanmean(first), np.sqrt(curves.variance.mean() / 110) * 1.5
        assert depth == pytest.approx(0.02, abs=4 * noise / np.nanmean(first))
        assert curves.log["aperture_radii_px"][1:] == pytest.approx([10, 15], abs=0.8)
        ratio = (first - np.nanmean(first)) / np.sqrt(curves.variance[:110])
        assert np.nanstd(ratio) == pytest.approx(1, abs=0.2)
    assert Photometry(**json.loads(json.dumps(asdict(annulus)))) == annulus
    for radii in ((15.0, 10.0), (10.0,)):
        with pytest.raises(UserError, match=r"is no annulus. Fix: give the inner and the outer radius"):
            Photometry("aperture", 5.0, radii)
    with pytest.raises(UserError, match="holds no pixel of the image"):
        extract_visit(transit_visit(0.0, 0.0, 2), 1, Options(), Photometry("psf", 5.0, (40.0, 50.0)))
