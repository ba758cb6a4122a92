"""Star tables in other units, with exchanged columns, or of other rows: what is found, and what is said."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from spectramind_nb.core.star_table import kepler_axis, star_fault, table_fault


def stars(count: int, seed: int = 0) -> pd.DataFrame:
    """Rows that scatter as the challenge's do."""
    rng = np.random.default_rng(seed)
    Ts = rng.normal(5840, 510, count)
    Ms = (Ts / 5600) ** 1.8 * np.exp(rng.normal(0, 0.11, count))
    Rs = 1.12 * (Ts / 5600) ** 2.2 * np.exp(rng.normal(0, 0.18, count))
    P, Mp = rng.uniform(2.8, 7.6, count), np.exp(rng.normal(0, 0.9, count))
    sma = kepler_axis(Ms, Rs, P) * np.exp(rng.normal(0, 0.064, count))
    i = 90 - np.degrees(np.arcsin(rng.uniform(0, 0.8, count) / sma))
    return pd.DataFrame({"Rs": Rs, "Ms": Ms, "Ts": Ts, "Mp": Mp, "e": 0.0, "P": P, "sma": sma, "i": i})


UNITS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "sma: solar radii": ("sma", lambda t: t["sma"] * t["Rs"]),
    "sma: AU": ("sma", lambda t: t["sma"] * t["Rs"] / 215.032),
    "sma: km": ("sma", lambda t: t["sma"] * t["Rs"] * 695_700),
    "sma: stellar diameters": ("sma", lambda t: t["sma"] / 2),
    "Rs: km": ("Rs", lambda t: t["Rs"] * 695_700),
    "Rs: Jupiter radii": ("Rs", lambda t: t["Rs"] * 9.731),
    "Rs: the diameter": ("Rs", lambda t: t["Rs"] * 2),
    "Ms: kg": ("Ms", lambda t: t["Ms"] * 1.98841e30),
    "Ts: electronvolts": ("Ts", lambda t: t["Ts"] * 8.617e-5),
    "Ts: degrees Fahrenheit": ("Ts", lambda t: t["Ts"] * 1.8 - 459.67),
    "P: hours": ("P", lambda t: t["P"] * 24),
    "P: twice the period": ("P", lambda t: t["P"] * 2),
    "P: half the period": ("P", lambda t: t["P"] / 2),
    "i: 180 degrees minus i": ("i", lambda t: 180 - t["i"]),
    "i: the cosine of i": ("i", lambda t: np.cos(np.radians(t["i"]))),
    "i: minus i": ("i", lambda t: -t["i"]),
    "i: arcminutes": ("i", lambda t: 60 * t["i"]),
    "P: a frequency in 1/d": ("P", lambda t: 1 / t["P"]),
    "sma: the logarithm": ("sma", lambda t: np.log10(t["sma"])),
    "sma: Rs/a, its inverse": ("sma", lambda t: 1 / t["sma"]),
    "sma: Jupiter radii": ("sma", lambda t: t["sma"] * t["Rs"] * 9.731),
}


@pytest.mark.parametrize("rows", [4, 30])
@pytest.mark.parametrize("case", UNITS)
def test_a_column_in_another_unit_is_named(case: str, rows: int) -> None:
    name, change = UNITS[case]
    table = stars(rows, 1)
    fault = table_fault(table.assign(**{name: change(table)}))
    assert fault and f"{fault.name}: {fault.looks_like}" == case
    assert fault.converted == pytest.approx(table[name][0], rel=1e-3)


EXCHANGES = ["P sma", "sma i", "Ts i", "e P", "Rs P", "Rs sma", "P i", "Ms Ts", "Rs Ts", "Mp e", "Mp sma", "Ms P"]


@pytest.mark.parametrize("case", [*EXCHANGES, "Rs Ms", "Ms Mp", "Rs Mp", "Mp P"])
def test_exchanged_columns_are_named(case: str) -> None:
    one, other = case.split()
    table = stars(30)
    fault = table_fault(table.rename(columns={one: other, other: one}))
    assert fault and {fault.name, fault.exchanged} == {one, other}
    assert fault.words.endswith("look exchanged") and fault.fix.startswith("exchange ")


def test_right_tables_pass_however_few_their_rows_are() -> None:
    for rows in (0, 1, 2, 3, 5, 8, 30):
        for seed in range(20):
            table = stars(rows, seed)
            assert table_fault(table) is None and not any(map(star_fault, table.to_dict("records")))


def test_one_row_in_solar_radii_is_told_by_kepler_s_law() -> None:
    table = stars(1).assign(Rs=1.4)
    table["sma"] = kepler_axis(table["Ms"], table["Rs"], table["P"])
    assert table_fault(table) is None
    fault = table_fault(table.assign(sma=table["sma"] * 1.4))
    assert fault and fault.looks_like == "solar radii" and "Kepler" in fault.words


def test_exchanged_values_of_one_row_are_named() -> None:
    row = stars(1).iloc[0].to_dict()
    fault = star_fault(row | {"P": row["i"], "i": row["P"]})
    assert fault and {fault.name, fault.exchanged} == {"P", "i"}
    assert star_fault(row | {"e": row["P"], "P": 0.0}) is not None


@pytest.mark.parametrize(
    ("unit", "name", "change"),
    [
        ("millions of km", "sma", lambda t: t["sma"] * t["Rs"] * 0.6957),
        ("1e30 kg", "Ms", lambda t: t["Ms"] * 1.98841),
        ("log g", "Ms", lambda t: 4.438 + np.log10(t["Ms"] / t["Rs"] ** 2)),
    ],
)
def test_units_with_usual_numbers_are_told_by_many_rows(
    unit: str, name: str, change: Callable[[pd.DataFrame], pd.Series]
) -> None:
    table = stars(30, 1)
    fault = table_fault(table.assign(**{name: change(table)}))
    assert fault and (fault.name, fault.looks_like) == (name, unit)
    assert fault.converted == pytest.approx(table[name][0], rel=1e-3)


def test_an_orbit_of_no_known_unit_is_refused_as_a_whole() -> None:
    table = stars(30)
    fault = table_fault(table.assign(sma=0.75 * table["sma"]))
    assert fault and fault.name == "sma" and "units of sma, P, Ms and Rs" in fault.words and not fault.looks_like
