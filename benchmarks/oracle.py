"""What no honest method beats on simulated planets: Bayes' rule with the simulator's own prior, a bank of its spectra.

A spectrum is its mean depth and its shape in scale heights, and the distribution of shapes hardly depends on the
planet's size: a member of the bank stands for planets of any depth, radius and gravity. Members fall into groups, and
each is a narrow Gaussian whose width goes from 0, the member itself (plain importance sampling), to 1, its whole group
(a mixture of Gaussians), while the group's moments stay what they are. Every step has a closed form.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import logsumexp

from spectramind_nb.prior.spectral_prior import log_scale
from spectramind_nb.simulator.bank import Bank

RANK = 40  # directions of shapes
STAR_RANK = 3  # what chemistry and opacity depend on: temperature, mass, radius
CLUSTER_RANK = 12  # directions that groups are first told apart by
WIDE = 0.1  # prior of the mean depth, (Rp/Rs)^2
FLOOR = 1e-3  # smallest standard deviation in a group; shapes have 1


def scale_height(star: Mapping[str, np.ndarray], depth: np.ndarray) -> np.ndarray:
    """Change of depth per scale height, but for a constant."""
    return np.asarray(np.exp(log_scale(star, depth)))


def star_place(star: Mapping[str, np.ndarray], depth: np.ndarray) -> np.ndarray:  # (..., 3)
    """Logarithms of equilibrium temperature, mass and radius."""
    kelvin, radius = star["Ts"] * np.sqrt(0.5 / star["sma"]), star["Rs"] * np.sqrt(depth)
    return np.log(np.stack([kelvin, star["Mp"], radius], axis=-1))


@dataclass(frozen=True)
class Group:
    """Members of the bank that are alike: given the star, a shape is `mean + slope (place - star) + residual`."""

    log_share: float
    star: np.ndarray  # mean place, (3,)
    star_factor: np.ndarray  # Cholesky factor of its covariance, (3, 3)
    mean: np.ndarray  # (K,)
    slope: np.ndarray  # (K, 3)
    factor: np.ndarray  # of the residuals' covariance, (K, K)
    residuals: np.ndarray  # of the members, (n, K)
    apart: np.ndarray  # members' places from `star`, whitened, (n, 3)


@dataclass(frozen=True)
class Shapes:
    """Shapes of a bank's spectra in scale heights."""

    unit: float  # depth a unit of shape, over `scale_height`
    centre: np.ndarray  # mean shape, (283,)
    basis: np.ndarray  # (283, K)
    rest: np.ndarray  # variance of what the basis leaves, (283,)
    groups: tuple[Group, ...]


def normalised(bank: Bank) -> tuple[np.ndarray, np.ndarray, float]:
    """Shapes (N, 283) of rms 1, places of stars (N, 3), and the unit."""
    star = dict(zip(bank.names, bank.parameters.T, strict=True))
    depth = bank.spectrum[:, 1:].mean(axis=1)
    shapes = (bank.spectrum - depth[:, None]) / scale_height(star, depth)[:, None]
    unit = float(np.sqrt(np.mean(shapes**2)))
    return shapes / unit, star_place(star, depth), unit


def learn_shapes(bank: Bank, groups: int, seed: int = 0) -> Shapes:
    """Directions and groups of a bank."""
    shapes, places, unit = normalised(bank)
    centre = shapes.mean(axis=0)
    _, _, directions = np.linalg.svd((shapes - centre)[:: max(len(shapes) // 8000, 1)], full_matrices=False)
    basis = directions[:RANK].T
    members = (shapes - centre) @ basis
    rest = np.mean((shapes - centre - members @ basis.T) ** 2, axis=0)
    label = cluster(np.column_stack([members, places]), groups, seed)
    found = [members_group(members[label == k], places[label == k], len(shapes)) for k in np.unique(label)]
    return Shapes(unit, centre, basis, rest, tuple(found))


def cluster(data: np.ndarray, groups: int, seed: int, rounds: tuple[int, int] = (25, 6)) -> np.ndarray:  # (N,)
    """Group of each member: expectation and maximisation of a mixture of Gaussians, first in a few directions."""
    few = data[:, [*range(CLUSTER_RANK), *range(RANK, RANK + STAR_RANK)]]
    bent = np.arcsinh(few[:, :CLUSTER_RANK] / np.median(np.abs(few[:, :CLUSTER_RANK]), axis=0))
    _, label = kmeans2(bent / bent.std(axis=0), groups, seed=seed, minit="++")
    log_parts = np.log(np.eye(groups)[label] + 1e-12)
    for columns, times in ((few, rounds[0]), (data, rounds[1])):
        for _ in range(times):
            log_parts = expected(columns, np.exp(log_parts - logsumexp(log_parts, axis=1, keepdims=True)))
    label = np.argmax(log_parts, axis=1)
    crowded = np.bincount(label, minlength=groups) > 2 * STAR_RANK
    return np.argmax(np.where(crowded, log_parts, -np.inf), axis=1)


def expected(data: np.ndarray, parts: np.ndarray) -> np.ndarray:  # (N, G)
    """Log of share times density of each group, whose moments are those of its parts of the members."""
    log_parts = np.full(parts.shape, -1e300)
    for k, part in enumerate(parts.T):
        chosen = part > 1e-6
        if part.sum() < 2 * STAR_RANK:
            continue
        mean, covariance = moments(data[chosen], part[chosen])
        factor = np.linalg.cholesky(covariance)
        away = solve_triangular(factor, (data - mean).T, lower=True, check_finite=False)
        log_parts[:, k] = np.log(part.mean()) - np.log(np.diag(factor)).sum() - 0.5 * (away**2).sum(axis=0)
    return log_parts


def moments(data: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance, the covariance drawn to its diagonal where there are few data."""
    mean = np.average(data, axis=0, weights=weight)
    total, away = weight.sum(), data - mean
    covariance = (away * weight[:, None]).T @ away / total
    few = data.shape[1] / (data.shape[1] + 4 * total)
    return mean, (1 - few) * covariance + np.diag(few * np.diag(covariance) + FLOOR**2)


def members_group(members: np.ndarray, places: np.ndarray, total: int) -> Group:
    """A group of members (n, K) and their places (n, 3)."""
    mean, covariance = moments(np.column_stack([members, places]), np.ones(len(members)))
    shape, star = slice(RANK), slice(RANK, None)
    slope = np.linalg.solve(covariance[star, star], covariance[star, shape]).T
    factor = np.linalg.cholesky(covariance[shape, shape] - slope @ covariance[star, shape])
    star_factor, away = np.linalg.cholesky(covariance[star, star]), places - mean[star]
    apart = solve_triangular(star_factor, away.T, lower=True).T
    residuals = members - mean[shape] - away @ slope.T
    return Group(
        float(np.log(len(members) / total)), mean[star], star_factor, mean[shape], slope, factor, residuals, apart
    )


@dataclass(frozen=True)
class Measured:
    """What data say of a shape w: log L = pull w - w precision w / 2; the mean depth is integrated out."""

    precision: np.ndarray  # (K, K)
    pull: np.ndarray  # (K,)


@dataclass(frozen=True)
class Widths:
    """How far members reach, as shares of their group: in shape and in what is known of the star."""

    shape: float
    star: float


@dataclass(frozen=True)
class Drawn:
    """Moments of a shape's posterior, and how many members it rests on."""

    mean: np.ndarray
    covariance: np.ndarray
    members: float  # effective sample size
    log_evidence: float


@dataclass(frozen=True)
class Weighed:
    """One group's part in a posterior."""

    log_weights: np.ndarray  # of the members, (n,)
    centres: np.ndarray  # of their posteriors, (n, K)
    covariance: np.ndarray  # of each, (K, K)


def weigh(group: Group, measured: Measured, place: np.ndarray, width: Widths) -> Weighed:
    """Members of a group with their evidences, and their posteriors."""
    shrink, star_shrink = np.sqrt(1 - width.shape**2), np.sqrt(1 - width.star**2)
    apart = solve_triangular(group.star_factor, place - group.star, lower=True)
    toward = ((apart - star_shrink * group.apart) ** 2).sum(axis=1) / width.star**2
    log_prior = group.log_share - np.log(len(toward) * width.star**STAR_RANK * np.prod(np.diag(group.star_factor)))
    centres = group.mean + group.slope @ (place - group.star) + shrink * group.residuals
    half = width.shape * group.factor
    inner = np.linalg.cholesky(np.eye(RANK) + half.T @ measured.precision @ half)
    gain = solve_triangular(inner, half.T, lower=True)  # covariance of a posterior is gain' gain
    pulls = measured.pull - centres @ measured.precision
    steps = pulls @ gain.T
    log_evidence = 0.5 * ((measured.pull + pulls) * centres).sum(axis=1) + 0.5 * (steps**2).sum(axis=1)
    log_evidence -= np.log(np.diag(inner)).sum()
    return Weighed(log_prior - 0.5 * toward + log_evidence, centres + steps @ gain, gain.T @ gain)


def draw_shape(shapes: Shapes, measured: Measured, place: np.ndarray, width: Widths) -> Drawn:
    """Posterior of the shape by all groups."""
    parts = [weigh(group, measured, place, width) for group in shapes.groups]
    total = logsumexp(np.concatenate([part.log_weights for part in parts]))
    weights = [np.exp(part.log_weights - total) for part in parts]
    mean = sum((w @ part.centres for w, part in zip(weights, parts, strict=True)), np.zeros(RANK))
    covariance = np.zeros((RANK, RANK))
    for w, part in zip(weights, parts, strict=True):
        if w.sum() > 1e-9:
            away = part.centres - mean
            covariance += w.sum() * part.covariance + (away * w[:, None]).T @ away
    return Drawn(mean, covariance, float(1 / sum(w @ w for w in weights)), float(total))


@dataclass(frozen=True)
class Spectrum:
    """An oracle's answer."""

    mean: np.ndarray  # (Rp/Rs)^2, (283,)
    covariance: np.ndarray  # (283, 283)
    members: float


def infer(
    shapes: Shapes, depth: np.ndarray, covariance: np.ndarray, star: Mapping[str, float], width: Widths
) -> Spectrum:
    """Posterior of a spectrum from depths (283,), their covariance and a row of the star table."""
    white = np.clip(depth[1:].mean(), 0.002, 0.1)
    known = {name: np.asarray(value) for name, value in star.items()}
    scale = shapes.unit * float(scale_height(known, white))
    rest = scale**2 * shapes.rest
    noise = cho_factor(covariance + np.diag(rest), lower=True)
    design = np.column_stack([np.ones(len(depth)), scale * shapes.basis])  # mean depth, shape
    offset = depth - scale * shapes.centre - white
    weighted = cho_solve(noise, np.column_stack([design, offset]))
    information, pull = design.T @ weighted[:, :-1], design.T @ weighted[:, -1]
    level, along = information[0, 0] + WIDE**-2, information[0, 1:]
    measured = Measured(information[1:, 1:] - np.outer(along, along) / level, pull[1:] - along * pull[0] / level)
    found = draw_shape(shapes, measured, star_place(known, white), width)
    back = scale * shapes.basis - np.outer(np.ones(len(depth)), along / level)  # d spectrum / d shape
    mean = white + scale * shapes.centre + pull[0] / level + back @ found.mean
    gain = rest[:, None] * cho_solve(noise, np.eye(len(depth)))  # what the data say of the rest
    kept = np.eye(len(depth)) - gain
    spread = back @ found.covariance @ back.T + 1 / level
    full = kept @ spread @ kept.T + kept * rest
    return Spectrum(mean + gain @ (depth - mean), (full + full.T) / 2, found.members)
