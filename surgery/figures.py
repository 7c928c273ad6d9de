"""Printed numbers as data: the text, its value in base units, the unit.

In: values as plans print them, and the exact ones where somebody still has them. Out: `Figure`s for
JSON, and `reading`, which goes from a text to a number. Refuses nothing: what holds no number has
none. Plans round on purpose (a re-measurement must not churn the file), so the value of a text
alone is the rounded one, and a figure says which it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from msgspec import Struct

from surgery.units import BYTES, NUMBER, PARAMS, Dimension

_SCALES: Mapping[str, Fraction] = {
    **{f"{p}iB": Fraction(1024**n) for n, p in enumerate("KMGT", start=1)},
    "K": Fraction(10**3),
    "M": Fraction(10**6),
    "B": Fraction(10**9),
    "K tok": Fraction(1024),
    "%": Fraction(1, 100),
    "ms": Fraction(1, 1000),
}
_READING = re.compile(r"(-?[0-9.]+(?:e[-+]?[0-9]+)?)\s?(.*?)(/seq)?")
_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("KiB", "MiB", "GiB", "TiB"), "bytes"),
    **dict.fromkeys(("K", "M"), "params"),
    **dict.fromkeys(("K tok", "tok"), "tok"),
    **dict.fromkeys(("ms", "s"), "s"),
    **dict.fromkeys(("exception", "exceptions"), "exceptions"),
}
_METRICS: Mapping[str, str] = {"params": "params", "weights": "bytes", "batch": "sequences"}


class Figure(Struct, frozen=True):
    """A number: as printed, its value in base units (`None` if it is none), the unit ("" if it has
    none), and whether the value is exact or that of the rounded text."""

    text: str
    value: Fraction | None
    unit: str
    exact: bool = False

    def data(self) -> dict[str, object]:
        """For JSON."""
        value = plain(self.value)
        return {"text": self.text, "value": value, "unit": self.unit, "exact": self.exact}


def plain(value: Fraction | None) -> int | float | None:
    """A value for JSON: whole ones as integers, others as the nearest double."""
    if value is None:
        return None
    return int(value) if value.denominator == 1 else float(value)


def of_text(text: str, name: str = "") -> Figure:
    """The figure of a text alone; `name` is that of a metric."""
    found = _READING.fullmatch(text.partition(", ")[0])
    kind = name.partition("@")[0]
    if found is None or (value := reading(text)) is None:
        return Figure(text, None, "")
    unit = _METRICS.get(kind) or _UNITS.get(found[2], found[2] if "/" in found[2] else "")
    if found[2] == "B":
        unit = "params" if "." in found[1] else "bytes"
    return Figure(text, value, unit + (found[3] or ""))


def exact(text: str, value: Fraction, dimension: Dimension) -> Figure:
    """The figure of a text whose value is known."""
    units = {NUMBER: "", BYTES: "bytes", PARAMS: "params"}
    told = of_text(text)
    return Figure(text, value, told.unit or units.get(dimension, str(dimension)), exact=True)


def reading(text: str) -> Fraction | None:
    """The number behind a printed value in base units, `None` where there is none.

    `B` alone is 10^9 parameters after a decimal point and bytes after a whole number, as
    `units.py` prints them.
    """
    # Where a figure comes from stands behind it: `7.1 ms, modelled +-17%`.
    found = _READING.fullmatch(text.partition(", ")[0])
    if found is None:
        return None
    try:
        number = Fraction(found[1])
    except ValueError:
        return None
    suffix = found[2]
    scale = Fraction(1) if suffix == "B" and "." not in found[1] else _SCALES.get(suffix)
    return number * (scale if scale is not None else 1)
