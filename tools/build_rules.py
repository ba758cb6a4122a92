"""Builds spectramind_nb/data/rules.npz, the bounds of the physics rules, from a bank of the simulator's spectra.

The bank that the shipped file was made from: spectramind bank --out BANK --spectra 40000 --seed 105 (45 minutes on
two cores for each 10,000).

Run: python tools/build_rules.py BANK spectramind_nb/data/rules.npz
"""

import sys
from pathlib import Path

from spectramind_nb.lib.simulator_bank import read_bank
from spectramind_nb.rule_table import derive_rules, write_rules


def main(source: Path, out: Path) -> None:
    """Derive the bounds and write them."""
    bank = read_bank(source)
    parameters = dict(zip(bank.names, bank.parameters.T, strict=True))
    write_rules(out, derive_rules(parameters, bank.spectrum, bank.made))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
