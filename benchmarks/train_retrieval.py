"""Train the retrieval's emulator and flow, and measure coverage and effective sample sizes on held-out planets."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fitted_planets import Setting, fit_twice, open_pool, unpacked

from spectramind_nb.core.files import network_file
from spectramind_nb.core.instrument import N_BINS
from spectramind_nb.prior.sharpening import sharpen
from spectramind_nb.prior.spectral_prior import prior_of_weights
from spectramind_nb.retrieval.emulator import learn_emulator, measure_error, shapes_of
from spectramind_nb.retrieval.flow import (
    DEPTH_MATCH,
    Retriever,
    Summary,
    draw_flow_examples,
    log_prior_of,
    read_retriever,
    train_proposal,
    write_retriever,
)
from spectramind_nb.retrieval.importance import retrieve
from spectramind_nb.retrieval.parameters import RETRIEVED_GASES, hosts_of
from spectramind_nb.retrieval.posterior import RETRIEVED_NAMES
from spectramind_nb.simulator.bank import Bank, read_bank
from spectramind_nb.uncertainty.sigma_factors import Fits

MEASURED = ("temperature_K", *(f"log10_{gas}" for gas in RETRIEVED_GASES), "metallicity_dex", "log10_cloud_bar")
SHARES = (0.68, 0.9)


def table_of(bank: Bank, rows: slice = slice(None)) -> dict[str, np.ndarray]:
    """Parameters of a bank by name."""
    return dict(zip(bank.names, bank.parameters[rows].T, strict=True))


def read_fits(paths: Sequence[Path]) -> Fits:
    """Depths and covariances of fitted planets from files of `fit_part`, with what else this needs."""
    parts = []
    for path in paths:
        with np.load(path) as arrays:
            parts.append(unpacked("plain", arrays))
    return Fits(
        np.concatenate([part.planet for part in parts]),
        np.concatenate([part.depth for part in parts]),
        np.concatenate([part.covariance for part in parts]),
        parts[0].stars,
        parts[0].quality,
        line_shape=np.concatenate([part.line_shape for part in parts]),
    )


def learn(bank: Bank, held_out: Bank, fits: Fits, args: argparse.Namespace) -> Retriever:
    """Learn emulator, summary and flow, and print how good each is."""
    start = time.time()
    emulator = learn_emulator(table_of(bank), bank.spectrum, args.epochs, args.seed)
    half = len(held_out.spectrum) // 2  # the other half is for the test
    error = 1e6 * measure_error(emulator, table_of(held_out, slice(half)), held_out.spectrum[:half])
    rms, feature = error[:, 1:].std(axis=1), 1e6 * held_out.spectrum[:half, 1:].std(axis=1)
    quantiles = np.quantile(rms, [0.5, 0.9, 0.99]).round(1)
    print(f"emulator: rms error of the AIRS shape {quantiles} ppm (median, 90%, 99%), ", end="")
    print(f"{np.median(rms / feature):.3f} of the features (median); {time.time() - start:.0f} s", flush=True)
    table, rng = table_of(bank), np.random.default_rng(args.seed)
    shape, level = shapes_of(bank.spectrum, table["temperature_K"], hosts_of(table))
    noise = [(float(d[1:].mean()), c) for d, c in zip(fits.depth, fits.covariance, strict=True)]
    summary = Summary.of_shapes(shape)
    examples = draw_flow_examples(rng, emulator, summary, hosts_of(table), level, noise, args.examples // len(noise))
    prior = -float(log_prior_of(examples.unit, examples.free).mean())
    print(f"{len(examples.free)} examples, {time.time() - start:.0f} s; loss of the prior {prior:.2f}", flush=True)

    def tell(step: int, loss: float) -> None:
        if step % args.tell == 0:
            print(f"step {step}/{args.steps}: loss {loss:.3f}, {time.time() - start:.0f} s", flush=True)

    proposal = train_proposal(examples, args.steps, args.seed, tell=tell)
    about = {"trained": f"{len(bank.spectrum)} spectra, {len(noise)} fits, {args.steps} steps", "seed": str(args.seed)}
    return Retriever(emulator, summary, proposal, about)


@dataclass(frozen=True)
class Cases:
    """Planets to retrieve, with their true parameters."""

    depth: np.ndarray  # (P, 283)
    covariance: list[np.ndarray]  # (283, 283) each
    truth: dict[str, np.ndarray]  # parameters by name, (P,)


def drawn_cases(rng: np.random.Generator, bank: Bank, fits: Fits, rows: np.ndarray) -> Cases:
    """Spectra of a bank with the noise of fits of about their depth."""
    fitted, depth, covariances = fits.depth[:, 1:].mean(axis=1), [], []
    for spectrum in bank.spectrum[rows]:
        chance = np.exp(-0.5 * (np.log(spectrum[1:].mean() / fitted) / DEPTH_MATCH) ** 2) + 1e-9
        covariances.append(fits.covariance[rng.choice(len(fitted), p=chance / chance.sum())])
        depth.append(spectrum + np.linalg.cholesky(covariances[-1]) @ rng.normal(size=N_BINS))
    truth = {name: values[rows] for name, values in table_of(bank).items()}
    return Cases(np.array(depth), covariances, truth)


def fitted_cases(setting: Setting, fits: Fits) -> Cases:
    """Fits of test planets' light curves, which the flow has not seen, without the smoothing by the line shape."""
    table, widths = table_of(setting.bank("test", int(fits.planet.max()) + 1)), fits.line_shape
    assert widths is not None
    sharp = [sharpen(d, c, float(w)) for d, c, w in zip(fits.depth, fits.covariance, widths, strict=True)]
    truth = {name: values[fits.planet] for name, values in table.items()}
    return Cases(np.array([depth for depth, _ in sharp]), [covariance for _, covariance in sharp], truth)


def ranks_of(retriever: Retriever, cases: Cases, proposals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of each true parameter in its posterior (P, M), effective sample sizes (P,), excess of chi2 (P,)."""
    ranks, sizes, excess = [], [], []
    for number, (depth, covariance) in enumerate(zip(cases.depth, cases.covariance, strict=True)):
        truth = {name: float(values[number]) for name, values in cases.truth.items()}
        found = retrieve(retriever, depth, covariance, truth, proposals, seed=number)
        own = []
        for name in MEASURED:
            column = found.values[:, RETRIEVED_NAMES.index(name)]
            known = np.isfinite(column) & (found.weight > 0)
            unlike = name == "metallicity_dex" and truth["free_chemistry"] > 0.5
            total = found.weight[known].sum()
            own.append(np.nan if unlike or not total else found.weight[known & (column < truth[name])].sum() / total)
        ranks.append(own)
        sizes.append(found.effective)
        excess.append(found.excess)
    return np.array(ranks), np.array(sizes), np.array(excess)


def print_coverage(label: str, ranks: np.ndarray, sizes: np.ndarray, excess: np.ndarray) -> None:
    """Print coverage, a test of the ranks, and effective sample sizes."""
    print(f"{label}: {len(sizes)} planets")
    print(f"{'parameter':<20}" + "".join(f"{share:>16.0%}" for share in SHARES) + "   ranks in five bins")
    for name, own in zip(MEASURED, ranks.T, strict=True):
        known = own[np.isfinite(own)]
        cells = []
        for share in SHARES:
            inside = np.mean(np.abs(known - 0.5) < share / 2)
            cells.append(f"{inside:>9.3f} ±{np.sqrt(share * (1 - share) / len(known)):.3f}")
        bins = np.histogram(known, 5, (0, 1))[0] / len(known)
        print(f"{name:<20}" + "".join(f"{cell:>16}" for cell in cells) + "   " + " ".join(f"{b:.2f}" for b in bins))
    low, middle = np.quantile(sizes, [0.05, 0.5])
    print(f"effective sample size: median {middle:.0f}, 5% below {low:.0f}; chi2 in excess {np.median(excess):.2f} sd")


def main() -> None:
    """Train or read, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("outputs/retrieval"), help="of banks and fits")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bank", type=Path, help="file of spectra to learn from; made if not given")
    parser.add_argument("--held-out", type=Path, help="file of other spectra; made if not given")
    parser.add_argument("--fits", type=Path, nargs="+", help="files of fits whose noise is drawn; made if not given")
    parser.add_argument("--spectra", type=int, default=40_000, help="to learn from")
    parser.add_argument("--epochs", type=int, default=40, help="of the emulator")
    parser.add_argument("--examples", type=int, default=200_000, help="of the flow")
    parser.add_argument("--steps", type=int, default=8000, help="of the flow, 512 examples each")
    parser.add_argument("--tell", type=int, default=500, help="steps between lines of progress")
    parser.add_argument("--planets", type=int, default=1000, help="to measure coverage on")
    parser.add_argument("--fitted", type=int, default=0, help="planets whose light curves are fitted, to measure too")
    parser.add_argument("--proposals", type=int, default=4000, help="a planet")
    parser.add_argument("--read", type=Path, help="weights to measure, instead of training")
    parser.add_argument("--out", type=Path, default=Path("retrieval.safetensors"), help="weights to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(args.folder, args.seed, 1)
    args.folder.mkdir(parents=True, exist_ok=True)
    held_out = read_bank(args.held_out) if args.held_out else setting.bank("test", 2 * args.planets)
    prior = prior_of_weights(network_file("laptop"))
    with open_pool(1) as pool:
        fits = read_fits(args.fits or fit_twice(pool, setting, "calib", 500, prior)[1])
        fitted = fit_twice(pool, setting, "test", args.fitted, prior)[1] if args.fitted else []
    if args.read is None:
        bank = read_bank(args.bank) if args.bank else setting.bank("bank", args.spectra)
        write_retriever(args.out, learn(bank, held_out, fits, args))
    retriever = read_retriever(args.read or args.out)
    rows = len(held_out.spectrum) // 2 + np.arange(min(args.planets, len(held_out.spectrum) // 2))
    start = time.time()
    cases = drawn_cases(np.random.default_rng(args.seed), held_out, fits, rows)
    print_coverage("held-out spectra with drawn noise", *ranks_of(retriever, cases, args.proposals))
    print(f"{(time.time() - start) / len(rows):.2f} s a planet", flush=True)
    if fitted:
        print_coverage(
            "fits of light curves", *ranks_of(retriever, fitted_cases(setting, read_fits(fitted)), args.proposals)
        )


if __name__ == "__main__":
    main()
