"""Builds spectramind_nb/data/rules.npz, the bounds of the physics rules, from a bank of the simulator's spectra.

The bank that the shipped file was made from: spectramind simulate spectra --out BANK --spectra 40000 --seed 105 (45
minutes on two cores for each 10,000).

Run: python tools/build_rules.py BANK spectramind_nb/data/rules.npz
It prints percentiles of the ratios of band areas, by the table's own windows and by those of an independent estimate.
"""

import sys
from pathlib import Path

import numpy as np

from spectramind_nb.core.instrument import wavelengths
from spectramind_nb.rules.rule_table import (
    RATIOS,
    VISIBLE,
    RuleTable,
    amplitude,
    bin_widths,
    derive_rules,
    excess_operator,
    write_rules,
)
from spectramind_nb.simulator.bank import read_bank

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
REFERENCE = {"H2O": (2.46, 2.64), "CO2": (2.67, 2.83), "CH4": (3.20, 3.45)}  # um, an independent estimate's windows
REFERENCE_CONTINUUM = ((2.12, 2.24), (3.78, 3.90))


def area_ratios(spectrum: np.ndarray, windows: dict[str, np.ndarray], continuum: np.ndarray) -> dict[str, np.ndarray]:
    """Ratios of band areas above the continuum, of spectra (N, 283) in which water is visible, by pair; windows (283,)
    and continuum (2, 283) are masks.
    """
    excess, water = spectrum @ excess_operator(continuum), windows["H2O"]
    seen = excess[excess[:, water].mean(axis=1) > VISIBLE * amplitude(spectrum)]
    area = {name: seen @ (window * bin_widths()) for name, window in windows.items()}
    return {f"{above}/{below}": area[above] / area[below] for above, below in RATIOS}


def inside(span: tuple[float, float]) -> np.ndarray:  # bool, (283,)
    """AIRS bins of a span in um."""
    return (wavelengths() >= span[0]) & (wavelengths() <= span[1])


def print_ratios(spectrum: np.ndarray, table: RuleTable) -> None:
    """Percentiles of the ratios by the table's windows, and by those of the independent estimate."""
    own = dict(zip(table.molecules, table.windows, strict=True)), table.continuum
    theirs = {name: inside(span) for name, span in REFERENCE.items()}, np.array([*map(inside, REFERENCE_CONTINUUM)])
    print(f"{'percentile':28}" + "".join(f"{p:>7}" for p in PERCENTILES) + "   spectra")
    for label, (windows, continuum) in (("", own), (", reference windows", theirs)):
        for pair, ratio in area_ratios(spectrum, windows, continuum).items():
            values = "".join(f"{value:7.2f}" for value in np.percentile(ratio, PERCENTILES))
            print(f"{pair + label:28}{values}   {len(ratio)}")


def main(source: Path, out: Path) -> None:
    """Derive the bounds, write them, and print what they are to be held against."""
    bank = read_bank(source)
    parameters = dict(zip(bank.names, bank.parameters.T, strict=True))
    table = derive_rules(parameters, bank.spectrum, bank.made)
    write_rules(out, table)
    print_ratios(bank.spectrum, table)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
