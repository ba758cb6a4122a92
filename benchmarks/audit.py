"""The auditor: false alarms on clean spectra, and the share of planted violations that it finds.

Clean spectra are the simulator's own, of planets that the bounds were not derived from: the truths as they are, with
the error bars of a prediction beside them; predictions made of them by the spectral prior from noisy depths; and the
truths with independent errors in each bin. A violation is planted by pushing one term of a rule until its value, before
any error, lies k sigma beyond its bound; and, for information, until it lies k sigma beyond where it was. Quantiles
have no error of their own: those of Gaussians are crossed by k of their sigmas, and errors move all three.

Run: python benchmarks/audit.py BENCHMARK_FOLDER [--planets 1000] [--clean test]
BENCHMARK_FOLDER holds banks named test_*.npz and ood_*.npz (see benchmarks/fitted_planets.py).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from spectramind_nb.core.files import network_file
from spectramind_nb.rules.auditor import verdicts
from spectramind_nb.rules.losses import prepare_spectra, rule_terms
from spectramind_nb.rules.planted import PLANTED, gaussian_quantiles, plant, violation_direction
from spectramind_nb.rules.rule_table import equilibrium_kelvin, read_rules
from spectramind_nb.simulator.bank import read_bank

PPM = 1e-6
SIGMA = PPM * np.r_[40.0, np.full(282, 20.0)]  # of a typical prediction
K = (1, 2, 3, 4, 5)


def read(folder: Path, name: str, planets: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectra and equilibrium temperatures of the longest bank of that name."""
    bank = read_bank(max(folder.glob(f"{name}_[0-9]*.npz"), key=lambda path: path.stat().st_size))
    parameters = dict(zip(bank.names, bank.parameters.T, strict=True))
    return bank.spectrum[:planets], equilibrium_kelvin(parameters)[:planets]


def directions(rank: int = 40) -> np.ndarray:
    """Orthonormal directions (283, R) in which the shipped network's prior lets spectra vary."""
    from spectramind_nb.network.weights import read_network

    vary = read_network(network_file("laptop")).scaling.directions
    return np.linalg.qr(np.asarray(vary, float).T)[0][:, :rank]


def like_predictions(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Truths with errors along the prior's directions and in the level, scaled to the sigma of a prediction: errors of
    neighbours go together, as in what a prior has smoothed.
    """
    basis = directions()
    error = rng.normal(size=(len(truth), basis.shape[1])) @ basis.T
    error[:, 1:] *= 20 * PPM / np.sqrt((error[:, 1:] ** 2).mean(axis=0))
    error[:, 0] = 40 * PPM * rng.normal(size=len(truth))
    return truth + error + 20 * PPM * rng.normal(size=(len(truth), 1))


def alarms(mu: np.ndarray, sigma: np.ndarray | None, kelvin: np.ndarray | None) -> dict[str, float]:
    """Share of planets with an alarm of each rule, and of any."""
    quantiles = None if sigma is None else gaussian_quantiles(mu, sigma)
    found = {name: verdict.broken.any(axis=1) for name, verdict in verdicts(mu, sigma, quantiles, kelvin).items()}
    return {name: float(each.mean()) for name, each in found.items()} | {
        "any": float(np.any([*found.values()], axis=0).mean())
    }


def detected(name: str, mu: np.ndarray, errors: np.ndarray | None, kelvin: np.ndarray, k: float) -> tuple[float, int]:
    """Share of violations planted k sigma beyond their bound that are found in their planet, rule and bin, with the
    disturbance `errors` (P, 283) or none; and of how many.
    """
    sigma, rng = np.tile(SIGMA, (len(mu), 1)), np.random.default_rng(0)
    broken = plant(name, mu, sigma, k, rng, kelvin)
    rows, rule = broken.row, (name.partition(":")[0],)
    if not len(rows):
        return float("nan"), 0
    error = np.zeros_like(broken.mu) if errors is None else errors[rows]
    quantiles = None if broken.quantiles is None else broken.quantiles + error[..., None]
    found = verdicts(broken.mu + error, sigma[rows], quantiles, kelvin[rows], rules=rule)[name]
    return float(found.broken[np.arange(len(rows)), broken.term].mean()), len(rows)


def from_where_it_was(name: str, mu: np.ndarray, kelvin: np.ndarray, k: float) -> float:
    """The same for pushes that move the value by k sigma, whatever the bound."""
    sigma, rng, table = np.tile(SIGMA, (len(mu), 1)), np.random.default_rng(0), read_rules()
    rule, parts = (name.partition(":")[0],), (torch.from_numpy(mu), torch.from_numpy(kelvin), torch.from_numpy(sigma))
    terms = rule_terms(prepare_spectra(parts[0], table, *parts[1:]), rules=rule)[name]
    rows = np.flatnonzero(terms.judged.any(dim=1).numpy())
    pushes = [violation_direction(name, terms, int(row), rng, table) for row in rows]
    push, term = np.array([p for p, _ in pushes]), np.array([t for _, t in pushes])
    unit = 1e-9
    moved = rule_terms(
        prepare_spectra(torch.from_numpy(mu[rows] + unit * push), table, torch.from_numpy(kelvin[rows])), rules=rule
    )[name]
    place = np.arange(len(rows)), term
    slope = np.abs((moved.value - terms.value[rows]).numpy()[place]) / unit
    assert terms.noise is not None
    size = k * terms.noise.numpy()[rows][place] / slope
    found = verdicts(mu[rows] + size[:, None] * push, sigma[rows], None, kelvin[rows], rules=rule)[name]
    return float(found.broken[place].mean())


def main() -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--planets", type=int, default=1000)
    parser.add_argument("--clean", default="test", help="name of the bank that holds the clean spectra")
    args = parser.parse_args()
    torch.set_num_threads(1)
    mu, kelvin = read(args.folder, args.clean, args.planets)
    strange, strange_kelvin = read(args.folder, "ood", args.planets)
    rng, bars = np.random.default_rng(1), np.tile(SIGMA, (len(mu), 1))
    like, rough = like_predictions(mu, rng), mu + SIGMA * rng.normal(size=mu.shape)
    cases = {
        "truth, no sigma": (mu, None, kelvin),
        "truth, no sigma, temperature unknown": (mu, None, None),
        "truth with error bars": (mu, bars, kelvin),
        "like predictions": (like, bars, kelvin),
        "like predictions, temperature unknown": (like, bars, None),
        "independent errors in all bins": (rough, bars, kelvin),
        "out of distribution, truth, no sigma": (strange, None, strange_kelvin),
        "out of distribution, truth with error bars": (strange, bars[: len(strange)], strange_kelvin),
    }
    counted = {label: alarms(*case) for label, case in cases.items()}
    names = list(counted["truth with error bars"])
    print(f"planets with an alarm, % of {len(mu)}\n{'':44}" + "".join(f"{name:>23}" for name in names))
    for label, shares in counted.items():
        print(f"{label:44}" + "".join(f"{100 * shares.get(name, np.nan):23.2f}" for name in names))
    tables: dict[str, dict[str, list[float]]] = {}
    for label, errors in (("no error", None), ("errors like predictions'", like - mu)):
        print(f"\nplanted k sigma beyond the bound, {label}: share found in its planet, rule and bin")
        print(f"{'':23}" + "".join(f"{f'k = {k}':>8}" for k in K) + "   planets")
        for name in PLANTED:
            found = [detected(name, mu, errors, kelvin, k) for k in K]
            tables.setdefault(label, {})[name] = [share for share, _ in found]
            print(f"{name:23}" + "".join(f"{share:8.3f}" for share, _ in found) + f"   {found[2][1]}")
    print("\nmoved by k sigma from where it was, no error (for information)")
    for name in (name for name in PLANTED if name != "quantile_monotonicity"):  # which lie 1.28 sigma apart
        print(f"{name:23}" + "".join(f"{from_where_it_was(name, mu, kelvin, k):8.3f}" for k in K))
    exact = tables["no error"]
    result = {
        "false_alarms": counted["truth with error bars"]["any"],
        "false_alarms_no_sigma": counted["truth, no sigma"]["any"],
        "false_alarms_like_predictions": counted["like predictions"]["any"],
        "false_alarms_temperature_unknown": counted["like predictions, temperature unknown"]["any"],
        "found_at_3_sigma": min(shares[K.index(3)] for shares in exact.values()),
        "found_at_5_sigma": min(shares[K.index(5)] for shares in exact.values()),
        "found_at_3_sigma_disturbed": min(shares[K.index(3)] for shares in tables["errors like predictions'"].values()),
        "found_at_5_sigma_disturbed": min(shares[K.index(5)] for shares in tables["errors like predictions'"].values()),
        "ood_alarms": counted["out of distribution, truth with error bars"]["any"],
    }
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))


if __name__ == "__main__":
    main()
