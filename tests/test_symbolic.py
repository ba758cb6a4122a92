"""The six physics rules, their bounds, and the auditor."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spectramind_nb.chapters.symbolic import rules_run
from spectramind_nb.core.contracts import Submission, read_npz, read_submission, write_submission
from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.instrument import N_BINS, wavelengths
from spectramind_nb.core.metric import BIN_WEIGHTS
from spectramind_nb.core.versions import versions_in
from spectramind_nb.rules.auditor import LOG, MAPS, audit, audit_file, summarise_audit, verdicts
from spectramind_nb.rules.influence import influence_by_rule, influence_of_rules
from spectramind_nb.rules.losses import (
    FORMS,
    SPECIFICATION,
    WEIGHT_NAMES,
    RuleLoss,
    RuleTensors,
    prepare_spectra,
    read_rule_weights,
    rule_losses,
    rule_terms,
)
from spectramind_nb.rules.planted import PLANTED, gaussian_quantiles, plant
from spectramind_nb.rules.rule_table import (
    RATIOS,
    bin_widths,
    class_of,
    derive_rules,
    equilibrium_kelvin,
    read_rules,
    write_rules,
)
from spectramind_nb.rules.statuses import RULES, statuses
from spectramind_nb.simulator.bank import bank_part
from spectramind_nb.simulator.population import physics

TABLE = read_rules()
CLEAN = torch.from_numpy(TABLE.example.copy())
SIZE = float(CLEAN[1:].std())
ERRORS = np.r_[40e-6, np.full(282, 20e-6)]
WATER = np.flatnonzero(TABLE.windows[TABLE.molecules.index("H2O")])


def broken_spectra() -> dict[str, Tensor]:
    """A spectrum that breaks each rule on spectra, (283,)."""
    found = {rule: CLEAN.clone() for rule in RULES[:-1]}
    found["smoothness"][60] += 8 * SIZE
    found["nonneg"][200] = -0.001
    found["coherence"][WATER[4:8]] -= 6 * SIZE
    found["seam"][0] += 100 * SIZE
    found["ratios"][np.flatnonzero(TABLE.windows[TABLE.molecules.index("CO2")])] -= 1.5 * SIZE
    return found


BROKEN = broken_spectra()
MANY = torch.stack([CLEAN, *BROKEN.values()])
KELVIN = torch.tensor([800.0, 1300.0, np.nan, 1900.0, 5000.0, 1200.0], dtype=torch.float64)
CROSSING = torch.stack([MANY - 3e-5, MANY, MANY + 3e-5], dim=-1)
CROSSING[2, 40:50, 0] += 5e-5
NOISE = torch.from_numpy(np.tile(ERRORS, (len(MANY), 1)))


def test_a_clean_spectrum_breaks_nothing() -> None:
    for kelvin in (None, KELVIN[:1]):
        for sigma in (None, NOISE[:1]):
            losses = rule_losses(CLEAN[None], TABLE, kelvin=kelvin, sigma=sigma, quantiles=CROSSING[:1])
            assert tuple(losses) == RULES and not any(float(loss) for loss in losses.values())


@pytest.mark.parametrize("rule", RULES[:-1])
def test_each_rule_penalises_what_breaks_it(rule: str) -> None:
    losses = rule_losses(BROKEN[rule][None], TABLE)
    assert losses[rule].shape == (1,) and losses[rule] > 0
    assert losses["quantile_monotonicity"] == 0


def test_crossing_quantiles_are_penalised() -> None:
    loss = rule_losses(MANY, TABLE, quantiles=CROSSING)["quantile_monotonicity"]
    assert (loss > 0).tolist() == [False, False, True, False, False, False]


def units(mu: Tensor) -> list[Tensor]:
    """All that rules take as a unit and don't differentiate."""
    shape = mu - mu[1:].mean()
    excess = coherent_excess(mu)
    return [
        shape[1:].square().sum(),
        mu[1:].mean(),
        *(excess[w].square().sum() for w in torch.from_numpy(TABLE.windows)),
    ]


def coherent_excess(mu: Tensor) -> Tensor:
    um = torch.from_numpy(wavelengths())
    ends = [(mu[torch.from_numpy(c)].mean(), um[torch.from_numpy(c)].mean()) for c in TABLE.continuum]
    (blue, at_blue), (red, at_red) = ends
    return mu - blue - (red - blue) * (um - at_blue) / (at_red - at_blue)


def along(way: Tensor, slope: Tensor) -> Tensor:
    """A small step mostly up a slope, or any where there is none."""
    way = way + 20 * slope / slope.norm().clamp_min(1e-30)
    return 1e-8 * way / way.norm()


def differs(ahead: Tensor, behind: Tensor, slope: Tensor, step: Tensor) -> bool:
    """Whether a loss at both ends of a step isn't what its gradient says."""
    expected, least = float((slope * step).sum() * 2), 1e-6 * float(slope.norm() * step.norm())
    return float(ahead - behind) != pytest.approx(expected, rel=2e-3, abs=least)


@pytest.mark.parametrize("rule", RULES[:-1])
@pytest.mark.parametrize("known", [False, True])
def test_gradients_are_those_of_finite_differences(rule: str, known: bool) -> None:
    """Along directions that leave the units as they are, for these count as constants."""
    mu = BROKEN[rule].clone().requires_grad_()
    more = {"sigma": NOISE[:1], "kelvin": KELVIN[:1]} if known else {}
    slope = torch.autograd.grad(rule_losses(mu[None], TABLE, **more)[rule].sum(), mu)[0]
    walls = torch.stack([torch.autograd.grad(unit, mu, retain_graph=True)[0] for unit in units(mu)]).T
    q, _ = torch.linalg.qr(walls)
    for seed in range(3):
        way = torch.randn(N_BINS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = along(way, slope)
        step = step - q @ (q.T @ step)
        ahead, behind = (rule_losses((mu.detach() + s)[None], TABLE, **more)[rule] for s in (step, -step))
        assert not differs(ahead, behind, slope, step)


@pytest.mark.parametrize("rule", RULES[:-1])
def test_gradients_of_the_literal_form_are_too(rule: str) -> None:
    mu = BROKEN[rule].clone()
    mu[WATER[4:8]] *= 0.5  # so much of the depth itself that its norm and areas tell
    mu[torch.from_numpy(TABLE.windows[TABLE.molecules.index("CO2")])] *= 0.6
    mu.requires_grad_()
    slope = torch.autograd.grad(rule_losses(mu[None], TABLE, form="literal")[rule].sum(), mu)[0]
    assert slope.any()
    for seed in range(3):
        step = along(torch.randn(N_BINS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), slope)
        ahead, behind = (rule_losses((mu.detach() + s)[None], TABLE, form="literal")[rule] for s in (step, -step))
        assert not differs(ahead, behind, slope, step)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("known", [False, True])
def test_gradients_of_crossed_quantiles_are_too(form: str, known: bool) -> None:
    """Where sigma isn't known their spread is the unit, so the median alone is moved."""
    more = {"sigma": NOISE[2:3], "form": form} if known else {"form": form}
    quantiles, rule = CROSSING[2:3].clone().requires_grad_(), "quantile_monotonicity"
    slope = torch.autograd.grad(rule_losses(MANY[2:3], TABLE, quantiles=quantiles, **more)[rule].sum(), quantiles)[0]
    moved = torch.tensor([known, True, known], dtype=torch.float64)
    assert (slope * moved).any()
    for seed in range(3):
        way = torch.randn(slope.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = along(way, slope) * moved
        ends = (quantiles.detach() + step, quantiles.detach() - step)
        ahead, behind = (rule_losses(MANY[2:3], TABLE, quantiles=end, **more)[rule] for end in ends)
        assert not differs(ahead, behind, slope, step)


def test_crossed_quantiles_are_pulled_apart() -> None:
    quantiles = CROSSING[2:3].clone().requires_grad_()
    loss = rule_losses(MANY[2:3], TABLE, quantiles=quantiles, sigma=NOISE[2:3])["quantile_monotonicity"]
    slope = torch.autograd.grad(loss.sum(), quantiles)[0][0]
    assert (slope[40:50, 0] > 0).all() and (slope[40:50, 1] < 0).all() and not slope[:40].any()


@pytest.mark.parametrize("form", ["excess", "literal"])
def test_a_batch_is_its_planets_one_by_one(form: str) -> None:
    together = rule_losses(MANY, TABLE, kelvin=KELVIN, sigma=NOISE, quantiles=CROSSING, form=form)
    for row in range(len(MANY)):
        one = slice(row, row + 1)
        alone = rule_losses(MANY[one], TABLE, kelvin=KELVIN[one], sigma=NOISE[one], quantiles=CROSSING[one], form=form)
        for rule in RULES:
            assert torch.allclose(alone[rule], together[rule][one], rtol=1e-9, atol=1e-15)


@given(
    seed=st.integers(0, 10**6), form=st.sampled_from(["excess", "literal"]), junk=st.sampled_from([0.0, 7.0, np.nan])
)
def test_masked_bins_contribute_nothing(seed: int, form: str, junk: float) -> None:
    rng = np.random.default_rng(seed)
    valid = torch.from_numpy(rng.random((len(MANY), N_BINS)) > 0.2)
    losses = []
    for filling in (None, junk):
        parts = [MANY, NOISE, CROSSING]
        if filling is not None:
            parts = [torch.where(valid if p.ndim == 2 else valid[..., None], p, filling) for p in parts]
        mu, sigma, quantiles = parts
        mu = mu.clone().requires_grad_()
        found = rule_losses(mu, TABLE, kelvin=KELVIN, sigma=sigma, quantiles=quantiles, valid=valid, form=form)
        slope = torch.autograd.grad(torch.stack([*found.values()]).sum(), mu)[0]
        assert not slope[~valid].any() and torch.isfinite(slope).all()
        losses.append(found)
    for rule in RULES:
        assert torch.equal(losses[0][rule], losses[1][rule])


def test_a_mask_drops_the_differences_that_touch_it() -> None:
    valid = torch.ones(N_BINS, dtype=torch.bool)
    valid[60] = False
    assert rule_losses(BROKEN["smoothness"][None], TABLE, valid=valid)["smoothness"] == 0
    assert all(not float(x) for x in rule_losses(MANY, TABLE, valid=torch.zeros(N_BINS, dtype=torch.bool))["seam"])


@given(shift=st.floats(-0.005, 0.05), scale=st.floats(0.2, 5.0))
def test_shift_and_scale_change_nothing_where_they_should_not(shift: float, scale: float) -> None:
    before = rule_losses(MANY, TABLE, kelvin=KELVIN)
    shifted = rule_losses(MANY + shift, TABLE, kelvin=KELVIN)
    mean = MANY[:, 1:].mean(dim=1, keepdim=True)
    scaled = rule_losses(mean + scale * (MANY - mean), TABLE, kelvin=KELVIN)
    for rule in ("smoothness", "coherence", "ratios"):
        for after in (shifted, scaled):
            assert torch.allclose(before[rule], after[rule], rtol=1e-6, atol=1e-12)


def test_single_precision_is_enough() -> None:
    double = rule_losses(MANY, TABLE, kelvin=KELVIN, sigma=NOISE)
    single = rule_losses(MANY.float(), TABLE, kelvin=KELVIN, sigma=NOISE.float())
    for rule in RULES:
        assert single[rule].dtype == torch.float32
        assert torch.allclose(single[rule].double(), double[rule], rtol=2e-3, atol=1e-6)
    half = rule_losses(MANY.bfloat16(), TABLE)
    assert all(torch.isfinite(loss).all() for loss in half.values())


def test_the_literal_form_is_the_specifications() -> None:
    """Appendix A, written out for one planet."""
    for mu, quantile in zip(MANY, CROSSING, strict=True):
        losses = {
            name: float(x) for name, x in rule_losses(mu[None], TABLE, quantiles=quantile[None], form="literal").items()
        }
        m = mu.numpy()
        smooth = sum((m[i + 1] - 2 * m[i] + m[i - 1]) ** 2 for i in range(1, 282))
        coherent, areas = 0.0, {}
        for name, window, template in zip(TABLE.molecules, TABLE.windows, TABLE.literal_template, strict=True):
            band = m[window]
            coherent += sum(
                max(t - s, 0) ** 2 for t, s in zip(template[window], band / np.sqrt((band**2).sum()), strict=True)
            )
            areas[name] = (m * bin_widths())[window].sum()
        ratio = 0.0
        for (above, below), low, high in zip(RATIOS, TABLE.literal_low, TABLE.literal_high, strict=True):
            r = areas[above] / (areas[below] + 1e-6)
            ratio += max(low - r, 0) + max(r - high, 0)
        q10, q50, q90 = quantile.numpy().T
        expected = {
            "smoothness": smooth,
            "nonneg": np.maximum(-m, 0).sum(),
            "coherence": coherent,
            "seam": (m[0] - m[1]) ** 2,
            "ratios": ratio,
            "quantile_monotonicity": (np.maximum(q10 - q50, 0) + np.maximum(q50 - q90, 0)).sum(),
        }
        assert losses == pytest.approx(expected, rel=1e-6, abs=1e-15)


def test_the_loss_is_the_weighed_mean_and_skips_what_has_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    each = rule_losses(MANY, TABLE, kelvin=KELVIN, quantiles=CROSSING)
    names = dict(zip(RULES, SPECIFICATION.values(), strict=True))
    expected = sum(weight * each[rule].mean() for rule, weight in names.items())
    loss = RuleLoss(SPECIFICATION)
    assert torch.allclose(loss(MANY, kelvin=KELVIN, quantiles=CROSSING), expected)
    assert not list(loss.parameters()) and not loss.state_dict()
    for name in ("coherence", "ratio", "seam", "nonneg"):
        monkeypatch.setattr(f"spectramind_nb.rules.losses.{name}", None)
    assert RuleLoss({"λ_sm": 0.2, "λ_coh": 0.0})(MANY) == pytest.approx(0.2 * float(each["smoothness"].mean()))
    monkeypatch.setattr("spectramind_nb.rules.losses.prepare_spectra", None)
    assert RuleLoss(dict.fromkeys(SPECIFICATION, 0.0))(MANY) == 0
    monkeypatch.undo()
    for wrong, said in (({"λ_x": 1.0}, "λ_x"), ({}, "form")):
        with pytest.raises(UserError, match=said):
            RuleLoss(wrong, "excess" if wrong else "raw")
    with pytest.raises(UserError, match="one row for each planet"):
        rule_losses(MANY[:, :100], TABLE)


def test_a_masked_bin_takes_its_three_second_differences_with_it() -> None:
    valid = torch.ones(N_BINS, dtype=torch.bool)
    valid[100] = False
    terms = rule_terms(prepare_spectra(MANY, TABLE, valid=valid), rules=("smoothness",))["smoothness"]
    assert all(terms.bins[~judged].tolist() == [99, 100, 101] for judged in terms.judged.numpy())


def test_the_shipped_bounds_are_of_this_simulator() -> None:
    assert versions_in(json.loads(TABLE.made)) == versions_in(physics())
    assert TABLE.molecules == ("H2O", "CO2", "CH4") and not (TABLE.windows.sum(axis=0) > 1).any()
    um = wavelengths()
    for name, expected in {"H2O": (2.46, 2.64), "CO2": (2.67, 2.83), "CH4": (3.20, 3.45)}.items():
        low, high = um[TABLE.windows[TABLE.molecules.index(name)]][[0, -1]]
        assert low < np.mean(expected) < high, "the window of an independent estimate lies inside"
    branch = np.abs(um - 3.32).argmin()
    assert TABLE.curvature[branch] > 3 * np.median(TABLE.curvature[2:-1]), "room for methane's Q branch"


@pytest.mark.slow
def test_deriving_again_from_a_small_bank_gives_compatible_bounds(tmp_path: Path) -> None:
    part = bank_part(3, 0, 150, False, None)
    names = json.loads(str(part["made"]))["names"]
    parameters = dict(zip(names, part["parameters"].T, strict=True))
    small = derive_rules(parameters, part["spectrum"], physics())
    assert set(small.molecules) == set(TABLE.molecules)
    for name in TABLE.molecules:
        one, other = (t.windows[t.molecules.index(name)] for t in (small, TABLE))
        assert (one & other).sum() >= 0.6 * min(one.sum(), other.sum())
    inside = slice(2, -1)
    assert (small.curvature[inside] <= 1.25 * TABLE.curvature[inside]).mean() > 0.98, "a small bank ends sooner"
    assert (small.ratio_high[-1][np.isfinite(small.ratio_high[-1])] <= 1.2 * TABLE.ratio_high[-1].max()).all()
    found = audit(range(150), part["spectrum"], kelvin=equilibrium_kelvin(parameters))
    assert sum("violated" in statuses(record).values() for record in found) <= 2
    again = read_rules(write_rules(tmp_path / "rules.npz", small))
    for field in fields(small):
        assert np.array_equal(getattr(again, field.name), getattr(small, field.name))


def test_temperature_narrows_bounds_and_ignorance_widens_them() -> None:
    assert class_of(np.array([np.nan, 100.0, 9000.0]), TABLE).tolist() == [len(TABLE.kelvin) - 1] * 3
    assert class_of(TABLE.kelvin, TABLE)[[0, -1]].tolist() == [0, len(TABLE.kelvin) - 2]
    assert (TABLE.template[-1] == TABLE.template[:-1].min(axis=0)).all()
    assert np.array_equal(
        equilibrium_kelvin({"Ts": np.array([6000.0, -1]), "sma": np.array([8.0, 8])}), [1500, np.nan], True
    )


def test_no_rules_file_or_a_wrong_one_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK nonsense")
    for path in (tmp_path / "none.npz", tmp_path / "bad.npz"):
        with pytest.raises(ContractError, match=r"file: .*Fix:"):
            read_rules(path)


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("k", [3.0, 5.0])
def test_what_is_planted_is_found_in_its_planet_rule_and_bin(name: str, k: float) -> None:
    mu, sigma = np.tile(TABLE.example, (4, 1)), np.tile(ERRORS, (4, 1))
    broken, quantiles = plant(name, mu, sigma, k, np.random.default_rng(1)), gaussian_quantiles(mu, sigma)
    here = broken.row.tolist().index(1)  # methane lifted beyond its bound hides water, so a copy or two are left out
    mu[1] = broken.mu[here]
    quantiles[1] = gaussian_quantiles(mu[1], sigma[1]) if broken.quantiles is None else broken.quantiles[here]
    seen = prepare_spectra(torch.from_numpy(mu), TABLE, sigma=torch.from_numpy(sigma))
    terms = rule_terms(seen, torch.from_numpy(quantiles))[name]
    records = audit(range(10, 14), mu, sigma, quantiles)
    rule, _, part = name.partition(":")
    for row, record in enumerate(records):
        told = record["violations"]["ratios"][part] if rule == "ratios" else record["violations"][name]
        assert told["status"] == ("violated" if row == 1 else "ok") and record["planet_id"] == 10 + row
        if row == 1 and name != "seam":
            assert int(terms.bins[broken.term[here]]) in told.get("bins", told.get("top_bins"))
            beyond = told["beyond_in_units" if name == "quantile_monotonicity" else "significance_sigma"]
            assert beyond == pytest.approx(k, abs=0.06)
    assert summarise_audit(records)[rule]["violated"] == 1 and summarise_audit(records)[rule]["worst_planet"] == 11


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("beyond_sigma", [6.0, 10.0])
def test_a_rule_at_its_weight_has_a_share_of_the_likelihoods_gradient(name: str, beyond_sigma: float) -> None:
    """Of planets that break it: a thousandth to all of it, by the weights of `loss=spec`, in double precision."""
    rng, rule = np.random.default_rng(1), name.partition(":")[0]
    mu, sigma = np.tile(TABLE.example, (4, 1)), np.tile(ERRORS, (4, 1))
    broken = plant(name, mu, sigma, beyond_sigma, rng)
    assert len(broken.row)
    spectra, errors = torch.tensor(broken.mu, requires_grad=True), torch.from_numpy(sigma[broken.row])
    truth = torch.from_numpy(mu[broken.row] + sigma[broken.row] * rng.normal(size=broken.mu.shape))
    weight = torch.tensor(BIN_WEIGHTS / BIN_WEIGHTS.sum())
    likelihood = (0.5 * ((truth - spectra) / errors).square() @ weight).sum()
    quantiles = None if broken.quantiles is None else torch.tensor(broken.quantiles, requires_grad=True)
    by_name = {own: label for label, own in WEIGHT_NAMES.items()}
    loss = RuleLoss({by_name[rule]: SPECIFICATION[by_name[rule]]}, table=TABLE)
    total = len(broken.row) * loss(spectra, sigma=errors, quantiles=quantiles)
    moved = spectra if quantiles is None else quantiles
    own = torch.autograd.grad(total, moved)[0].flatten(1).norm(dim=1)
    share = own / torch.autograd.grad(likelihood, spectra)[0].norm(dim=1)
    assert total.dtype == torch.float64 and ((share > 1e-3) & (share < 1)).all(), share


def test_each_rule_and_molecule_is_planted() -> None:
    assert {name.partition(":")[0] for name in PLANTED} == set(RULES)
    assert {name for name in PLANTED if "coh" in name} == {f"coherence:{molecule}" for molecule in TABLE.molecules}


def test_the_records_have_the_specifications_schema() -> None:
    (record,) = audit([5], TABLE.example[None], quantiles=CROSSING[:1].numpy())
    told = record["violations"]
    assert record["planet_id"] == 5
    assert {"score", "top_bins"} <= set(told["smoothness"]) and {"count", "min"} <= set(told["nonneg"])
    assert {"score", "bins"} <= set(told["coherence:H2O"]) and "delta" in told["seam"]
    assert {"r", "status"} <= set(told["ratios"]["ch4_h2o"]) and told["quantile_monotonicity"]["count"] == 0
    assert told["seam"]["delta"] == pytest.approx(TABLE.example[0] - TABLE.example[1:9].mean())
    json.dumps(record, allow_nan=False)
    assert set(statuses(record).values()) == {"ok"}
    flat = audit([5], np.full((1, N_BINS), 0.01))[0]["violations"]
    assert flat["coherence:H2O"] == {"status": "not judged"} and flat["ratios"]["co2_h2o"]["status"] == "not judged"


def test_error_bars_excuse_what_they_explain() -> None:
    mu = BROKEN["smoothness"].numpy()[None]
    assert verdicts(mu)["smoothness"].broken.any()
    assert verdicts(mu, np.full_like(mu, 20e-6))["smoothness"].broken.any()
    assert not verdicts(mu, np.full_like(mu, 2000e-6))["smoothness"].broken.any()


def test_influence_points_from_the_fault_and_is_zero_where_all_is_kept() -> None:
    mu = MANY.numpy()
    maps = influence_of_rules(mu)
    assert maps.shape == mu.shape and not maps[0].any()
    assert np.abs(maps[1]).argmax() == 60 and maps[1, 60] > 0 and maps[2, 200] < 0
    each = influence_by_rule(mu)
    assert tuple(each) == RULES
    total = sum(weight * each[rule] for rule, weight in zip(RULES, SPECIFICATION.values(), strict=True))
    assert np.allclose(total, maps)


@pytest.mark.parametrize("stars", [False, True])
def test_any_submission_is_audited(tmp_path: Path, stars: bool) -> None:
    submission = Submission(
        np.array([7, 0]), np.stack([TABLE.example, BROKEN["smoothness"].numpy()]), NOISE[:2].numpy()
    )
    path = write_submission(tmp_path / "theirs.csv", submission, "specification")
    table = tmp_path / "stars.csv"
    table.write_text("planet_id,Ts,sma\n7,5900,10\n")
    summary = audit_file(path, table if stars else None, tmp_path / "new")
    assert summary["smoothness"] == {"judged": 2, "violated": 1, "worst_planet": 0}
    records = json.loads((tmp_path / "new" / LOG).read_text())
    assert [record["planet_id"] for record in records] == [7, 0]
    maps = read_npz(tmp_path / "new" / MAPS, "influence")
    assert json.loads(str(maps["rules"])) == list(RULES) and not maps["influence"][:, 0].any()


def test_quantiles_beside_a_submission_are_audited(tmp_path: Path) -> None:
    mu, sigma, crossed = CLEAN.numpy()[None].repeat(2, axis=0), NOISE[:2].numpy(), CROSSING[[2, 0, 1]].numpy()
    path = write_submission(tmp_path / "theirs.csv", Submission(np.array([7, 0]), mu, sigma))
    beside = tmp_path / "quantiles.npz"
    np.savez(beside, planet_id=[0, 7, 9], quantiles=crossed.astype(np.float32))  # in another order, with one too many
    summary = audit_file(path, None, tmp_path / "new", beside)
    assert summary["quantile_monotonicity"] == {"judged": 2, "violated": 1, "worst_planet": 0}
    assert json.loads((tmp_path / "new" / LOG).read_text())[1]["violations"]["quantile_monotonicity"]["count"] == 10
    nan = np.where(np.arange(3) == 1, np.nan, crossed)
    for arrays, said in (
        ({"quantiles": crossed}, "planet_id: array is missing"),
        ({"planet_id": [0, 8, 9], "quantiles": crossed}, "planet 7 is missing"),
        ({"planet_id": [0, 7, 7], "quantiles": crossed}, "twice"),
        ({"planet_id": [0, 7, 9], "quantiles": crossed[..., :2]}, r"\(3, 283, 2\)"),
        ({"planet_id": [0, 7, 9], "quantiles": nan}, "not finite"),
    ):
        np.savez(beside, **arrays)
        with pytest.raises(ContractError, match=rf"quantiles\.npz: .*{said}.*Fix: give arrays"):
            audit_file(path, None, tmp_path / "new", beside)
    for content in (None, b"PK nonsense"):
        beside.unlink(missing_ok=True) if content is None else beside.write_bytes(content)
        with pytest.raises(ContractError, match=r"quantiles\.npz: file: .*Fix: give arrays"):
            audit_file(path, None, tmp_path / "new", beside)


def test_what_cannot_be_audited_is_one_line(tmp_path: Path) -> None:
    one = TABLE.example[None]
    for given_sigma in (np.zeros_like(one), np.full((1, 5), 1e-5), np.full_like(one, np.nan)):
        with pytest.raises(UserError, match=r"audit: sigma .*Fix:"):
            audit([1], one, given_sigma)
    with pytest.raises(UserError, match=r"audit: mu .*Fix:"):
        audit([1], np.full_like(one, np.nan))
    with pytest.raises(UserError, match="one row for each planet"):
        audit([1], one[:, :5])
    with pytest.raises(ContractError, match="Fix:"):
        audit_file(tmp_path / "none.csv", None, tmp_path)


def test_the_stage_keeps_weights_and_audits_labels(tmp_path: Path) -> None:
    from spectramind_nb.detector.raw import STAR_COLUMNS, WAVELENGTH_COLUMNS

    run, raw = tmp_path / "run", tmp_path / "raw"
    (run / "00_calibration/artifacts").mkdir(parents=True)
    raw.mkdir()
    plan = {"planets": {"train": [1, 2], "test": []}, "options": {}}
    (run / "00_calibration/artifacts/plan.json").write_text(json.dumps(plan))
    without = rules_run(run, raw, SPECIFICATION, "literal")
    assert without["labels"] == 0 and read_rule_weights(run) == (SPECIFICATION, "literal")
    star = "1.2,1.1,5900,1,0,5,10,89"
    (raw / "train_star_info.csv").write_text(f"planet_id,{','.join(STAR_COLUMNS)}\n1,{star}\n2,{star}\n")
    rows = [",".join([str(k), *map(repr, mu.tolist())]) for k, mu in ((1, CLEAN), (2, BROKEN["smoothness"]))]
    (raw / "train.csv").write_text("\n".join([",".join(["planet_id", *WAVELENGTH_COLUMNS]), *rows]) + "\n")
    found = rules_run(run, raw, SPECIFICATION, "excess")
    assert (found["labels"], found["breaking_any"], found["rules"]["smoothness"]["worst_planet"]) == (2, 1, 2)
    with pytest.raises(UserError, match=r"loss\.form"):
        rules_run(run, raw, SPECIFICATION, "raw")
    with pytest.raises(ContractError, match=r"rules\.json"):
        read_rule_weights(tmp_path)


def test_bounds_that_a_small_bank_lacks_bound_nothing() -> None:
    bare = replace(
        TABLE,
        template=np.full_like(TABLE.template, -np.inf),
        ratio_low=np.full_like(TABLE.ratio_low, -np.inf),
        ratio_high=np.full_like(TABLE.ratio_high, np.inf),
    )
    mu = MANY.clone().requires_grad_()
    losses = rule_losses(mu, RuleTensors(bare), kelvin=KELVIN, sigma=NOISE)
    assert not losses["coherence"].any() and not losses["ratios"].any()
    assert torch.isfinite(torch.autograd.grad(torch.stack([*losses.values()]).sum(), mu)[0]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same() -> None:
    loss = RuleLoss(SPECIFICATION)
    here = loss(MANY, kelvin=KELVIN, sigma=NOISE, quantiles=CROSSING)
    there = loss.cuda()(MANY.cuda(), kelvin=KELVIN.cuda(), sigma=NOISE.cuda(), quantiles=CROSSING.cuda())
    assert torch.allclose(here, there.cpu())


def test_a_submission_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_submission(tmp_path / "s.csv", Submission(np.array([1]), TABLE.example[None], ERRORS[None]))
    found = read_submission(path)
    assert set(statuses(audit(found.planet_id, found.mu, found.sigma)[0]).values()) == {"ok", "not judged"}
