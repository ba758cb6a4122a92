"""Opacities, atmospheres and the bank: against the yardstick table, against TauREx, and whole where they are cut."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spectramind_nb.core.errors import ContractError, UserError
from spectramind_nb.core.instrument import bin_edges, wavelengths
from spectramind_nb.core.opacity import opacity_table
from spectramind_nb.simulator import bank as simulator_bank
from spectramind_nb.simulator.atmosphere import (
    ATMOSPHERE_LAYERS,
    BOTTOM_BAR,
    SOLAR_RADIUS_M,
    draw_atmosphere,
    equilibrium,
    layer_pressures,
    reference_spectrum,
    transmission_spectrum,
    use_opacities,
)
from spectramind_nb.simulator.bank import make_bank, read_bank
from spectramind_nb.simulator.population import (
    draw_planet_spectrum,
    draw_radius,
    draw_system,
    equilibrium_temperature,
    physics,
    planet_stream,
)

YARDSTICK = Path(__file__).parents[2] / "shared" / "opacity"
needs_yardstick = pytest.mark.skipif(not YARDSTICK.is_dir(), reason="no reference opacities on this machine")


def drawn(number: int, ood: bool = False) -> tuple:
    """An atmosphere of the population with its planet: arguments of both forward models."""
    rng = planet_stream(17, "train", number)
    system = draw_system(rng)
    atmosphere = draw_atmosphere(rng, equilibrium_temperature(system), system.Mp, ood)
    return atmosphere, system.Mp, draw_radius(rng, system, atmosphere), system.Rs * SOLAR_RADIUS_M


def test_table_is_small_and_says_where_it_comes_from() -> None:
    table = opacity_table()
    path = Path(simulator_bank.__file__).parents[1] / "data" / "opacity.npz"
    assert path.stat().st_size < 1_000_000
    for word in ("HITRAN2012", "Exo_Transmit", "HITEMP", "Borysow", "synthetic"):
        assert any(word in source for source in table.sources)
        assert word.split("_")[0].rstrip("0123456789") in (path.parent / "README.md").read_text() or word == "synthetic"
    assert table.weights.sum() == pytest.approx(1)
    assert (np.diff(table.log10_k_cm2, axis=-1) >= 0).all()  # quantiles rise


def test_table_is_interpolated_between_its_nodes_and_constant_beyond() -> None:
    table = opacity_table()
    number = table.molecules.index("H2O")
    k = table.k_cm2("H2O", table.temperature_K[[3, 0]], table.pressure_bar[[2, 7]])
    assert np.allclose(np.log10(k), table.log10_k_cm2[number][[3, 0], [2, 7]])
    assert np.allclose(table.k_cm2("H2O", np.array([99.0]), np.array([1e3])), k[1])
    middle = table.k_cm2("H2O", table.temperature_K[3:5].mean(keepdims=True), table.pressure_bar[2:3])
    assert np.allclose(np.log10(middle[0]), table.log10_k_cm2[number][3:5, 2].mean(axis=0))
    with pytest.raises(ValueError, match="not in"):
        table.k_cm2("XY", np.array([1000.0]), np.array([1.0]))


@needs_yardstick
@pytest.mark.parametrize(
    ("molecule", "temperatures", "median", "spread"),  # dex; spread: half of the bins closer than this
    [
        ("H2O", (300, 500), 0.1, 0.12),
        ("H2O", (1000,), 0.15, 0.4),
        ("CO", (300, 500, 1000), 0.08, 0.08),
        ("CH4", (700, 1000), 0.05, 0.2),
        ("CO2", (500, 1000, 1500), 0.1, 0.5),
    ],
)
def test_table_agrees_with_the_yardstick(molecule: str, temperatures: tuple, median: float, spread: float) -> None:
    table, theirs = opacity_table(), np.load(YARDSTICK / "ariel283_kdist.npz")
    um, index = wavelengths(), list(theirs["molecules"]).index(molecule)
    covered = {"CH4": um > 2.115, "CO": np.abs(um - 2.35) < 0.07}.get(molecule, np.ones(283, bool))
    for kelvin in temperatures:
        for bar in (1e-2, 1.0):
            k = table.k_cm2(molecule, np.array([kelvin], float), np.array([bar]))[0]
            rows = theirs["logmean_log10_cm2"][index][:, int(np.argmin(abs(np.log10(theirs["P_bar"] / bar))))].astype(
                float
            )
            other = np.array([np.interp(kelvin, theirs["T_K"], column) for column in rows.T])
            apart = (np.log10(k) @ table.weights - other)[covered & (other > -25)]
            assert abs(np.median(apart)) < median and np.median(np.abs(apart)) < spread


@needs_yardstick
def test_collision_induced_absorption_agrees_with_the_yardstick() -> None:
    theirs, table = np.load(YARDSTICK / "ariel283_cia.npz"), opacity_table()
    for pair, name in (("H2-H2", "log10_H2H2_cm5"), ("H2-He", "log10_H2He_cm5")):
        ours = np.log10(table.cia_cm5(pair, np.array([1000.0]))[0])
        apart = ours - np.array([np.interp(1000, theirs["T_K"], column) for column in theirs[name].T])
        assert np.median(np.abs(apart[1:])) < 0.2


def test_taurex_agrees_with_readable_numpy() -> None:
    apart = []
    for number in range(20):
        case = drawn(number, ood=number >= 15)
        ours, theirs = reference_spectrum(*case), transmission_spectrum(*case)
        apart.append(1e6 * np.sqrt(np.mean((ours - theirs) ** 2)))
    assert max(apart) < 5, apart


def test_spectra_obey_physics() -> None:
    atmosphere, mass, radius, star = drawn(3)
    clear = replace(atmosphere, cloud_bar=BOTTOM_BAR, haze_per_m3=1e-9)
    spectrum = reference_spectrum(clear, mass, radius, star)
    cloudy = reference_spectrum(replace(clear, cloud_bar=1e-4), mass, radius, star)
    assert (cloudy >= spectrum - 1e-12).all() and cloudy[1:].std() < spectrum[1:].std()
    hazy = reference_spectrum(replace(clear, haze_per_m3=1e10), mass, radius, star)
    assert hazy[0] - spectrum[0] > np.mean(hazy[1:] - spectrum[1:]) > 0
    assert np.allclose(reference_spectrum(clear, mass, radius, 2 * star), spectrum / 4)
    heavy = reference_spectrum(clear, 5 * mass, radius, star)
    assert heavy[1:].std() < 0.5 * spectrum[1:].std()


def test_equilibrium_knows_cold_and_hot() -> None:
    cold, hot = (equilibrium(np.full(ATMOSPHERE_LAYERS, kelvin), 0.0, 0.55) for kelvin in (700.0, 1600.0))
    level = int(np.argmin(np.abs(np.log(layer_pressures()[1] / 1e-2))))
    assert cold["CH4"][level] > 10 * cold["CO"][level] and hot["CO"][level] > 1e3 * hot["CH4"][level]
    assert hot["CO"][level] == pytest.approx(10 ** (8.73 - 12) * 0.55 * 2 * 0.85, rel=0.25)


def test_users_own_opacities(tmp_path: Path) -> None:
    case, table = drawn(1), opacity_table()
    ours = transmission_spectrum(*case)
    with pytest.raises(UserError, match=r"no k-table of CH4, CO, CO2, H2O. Fix:"):
        use_opacities(tmp_path)
    for name in table.molecules:
        k = 10 ** table.log10_k_cm2[table.molecules.index(name)].transpose(1, 0, 2, 3)[:, :, ::-1]
        content = {"bin_centers": 1e4 / wavelengths()[::-1], "ngauss": len(table.weights), "t": table.temperature_K}
        content |= {"p": table.pressure_bar, "kcoeff": k, "weights": table.weights, "name": name}
        (tmp_path / f"{name}.mine.pickle").write_bytes(pickle.dumps(content))
    try:
        use_opacities(tmp_path)
        theirs = transmission_spectrum(*case)
    finally:
        use_opacities()
    assert np.array_equal(transmission_spectrum(*case), ours)
    # TauREx interpolates k itself, this package its logarithm: the same table, other spectra between the nodes
    assert 0 < np.abs(theirs - ours).max() < 0.3 * np.ptp(ours[1:])


@pytest.mark.slow
def test_out_of_distribution_lies_outside_training() -> None:
    plain, odd = (
        [draw_planet_spectrum(planet_stream(5, "test", k), ood).atmosphere for k in range(30)] for ood in (False, True)
    )
    metals, ratio = (
        [[each[key] for each in group] for group in (plain, odd)] for key in ("metallicity_dex", "carbon_oxygen")
    )
    assert max(metals[0]) <= 2 and max(ratio[0]) <= 1.3
    assert all(m > 2 or c > 1.3 for m, c in zip(metals[1], ratio[1], strict=True))
    assert all(max(each["log10_O3"], each["log10_HCN"]) > -6 for each in odd)
    assert all(each["log10_O3"] == each["log10_HCN"] == -20 for each in plain)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator_bank, "PART", 2)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.slow
def test_a_cut_bank_is_finished_and_a_longer_one_begins_with_it(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def cut(done: int, total: int) -> None:
        told.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_bank(tmp_path / "bank.npz", 5, seed=2, workers=1, progress=cut)
    parts = tmp_path / "bank.npz.parts"
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.npz")}
    assert len(kept) >= 1 and not (tmp_path / "bank.npz").exists()
    with pytest.raises(UserError, match="parts of another bank"):
        make_bank(tmp_path / "bank.npz", 5, seed=3)
    make_bank(tmp_path / "bank.npz", 5, seed=2, workers=1, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5) and not parts.exists()
    bank = read_bank(tmp_path / "bank.npz")
    assert bank.spectrum.shape == (5, 283) and bank.made["seed"] == 2 and bank.made.items() >= physics().items()
    planet = draw_planet_spectrum(planet_stream(2, "bank", 4))
    assert np.array_equal(planet.spectrum, bank.spectrum[4])
    assert bank.planet(4).system == planet.system and bank.planet(4).atmosphere == pytest.approx(planet.atmosphere)


@pytest.mark.slow
def test_a_quick_bank_has_the_same_planets_and_spectra(tmp_path: Path) -> None:
    make_bank(tmp_path / "quick.npz", 3, seed=2, workers=1, quick=True)
    bank = read_bank(tmp_path / "quick.npz")
    planets = [draw_planet_spectrum(planet_stream(2, "bank", number)) for number in range(3)]
    assert [bank.planet(number).system for number in range(3)] == [planet.system for planet in planets]
    apart = bank.spectrum - np.array([planet.spectrum for planet in planets])
    assert 0 < 1e6 * np.sqrt(np.mean(apart**2)) < 2 and bank.made["model"] == "numpy"
    with pytest.raises(UserError, match=r"opacities alone\. Fix"):
        make_bank(tmp_path / "mine.npz", 3, seed=2, opacities=tmp_path, quick=True)


def test_bad_banks(tmp_path: Path) -> None:
    (tmp_path / "there.npz").touch()
    with pytest.raises(UserError, match=r"there.npz exists. Fix:"):
        make_bank(tmp_path / "there.npz", 1, seed=0)
    with pytest.raises(UserError, match=r"can't be\. Fix"):
        make_bank(tmp_path / "new.npz", 0, seed=0)
    with pytest.raises(ContractError, match=r"there\.npz"):
        read_bank(tmp_path / "there.npz")


def test_bins_touch_and_hold_their_centres() -> None:
    edges, um = bin_edges(), wavelengths()
    assert (edges[:, 0] < um).all() and (um < edges[:, 1]).all() and np.allclose(edges[2:, 0], edges[1:-1, 1])
