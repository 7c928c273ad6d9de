"""Units as types: dimensions, exact quantities, and how to print them.

In: number, magnitude letter and unit as written in a spec. Out: `Quantity` in base units (byte,
token, parameter, second, joule) with an exact value. There is no implicit conversion between
dimensions, and any conversion within one. Not here: parsing (the grammar) or which dimension a
field wants (`surgery/checking/`).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from fractions import Fraction

from msgspec import Struct


class Dimension(Struct, frozen=True):
    """Exponents of the base dimensions. Counts, ratios and scores are all dimensionless."""

    bytes: int = 0
    tok: int = 0
    params: int = 0
    time: int = 0
    req: int = 0
    energy: int = 0

    def __mul__(self, other: Dimension) -> Dimension:
        return _combined(self, other, 1)

    def __truediv__(self, other: Dimension) -> Dimension:
        return _combined(self, other, -1)

    def powers(self) -> tuple[int, int, int, int, int, int]:
        """The exponents in declaration order."""
        return (self.bytes, self.tok, self.params, self.time, self.req, self.energy)

    @property
    def noun(self) -> str:
        """What a message calls a value of this dimension, with its article."""
        return _NOUNS.get(self, f"a value in {self}")

    def __str__(self) -> str:
        names = ("bytes", "tok", "params", "s", "req", "J")
        over = [_power(n, p) for n, p in zip(names, self.powers(), strict=True) if p > 0]
        under = [_power(n, -p) for n, p in zip(names, self.powers(), strict=True) if p < 0]
        if not over and not under:
            return "1"
        return "*".join(over or ["1"]) + "".join(f"/{name}" for name in under)


@functools.cache
def _combined(one: Dimension, other: Dimension, times: int) -> Dimension:
    """The sum of the exponents, those of the other so many times; few pairs ever meet."""
    pairs = zip(one.powers(), other.powers(), strict=True)
    return Dimension(*(a + times * b for a, b in pairs))


def _power(name: str, power: int) -> str:
    return name if power == 1 else f"{name}^{power}"


NUMBER = Dimension()
BYTES = Dimension(bytes=1)
TOK = Dimension(tok=1)
PARAMS = Dimension(params=1)
TIME = Dimension(time=1)
REQ = Dimension(req=1)
TOK_PER_S = TOK / TIME
REQ_PER_S = REQ / TIME
BYTES_PER_S = BYTES / TIME
WATT = Dimension(energy=1) / TIME
J_PER_TOK = Dimension(energy=1) / TOK

_NOUNS = {
    NUMBER: "a plain number",
    BYTES: "a number of bytes",
    TOK: "a number of tokens",
    PARAMS: "a count of parameters",
    TIME: "a time",
    TOK_PER_S: "a number of tokens per second",
    REQ_PER_S: "a number of requests per second",
    WATT: "a power",
    J_PER_TOK: "an energy per token",
}


class Unit(Struct, frozen=True):
    """A unit that can follow a number. `flavour` keeps apart what is dimensionless."""

    name: str
    dimension: Dimension
    scale: Fraction
    flavour: str = ""


UNITS: dict[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit("KiB", BYTES, Fraction(2**10)),
        Unit("MiB", BYTES, Fraction(2**20)),
        Unit("GiB", BYTES, Fraction(2**30)),
        Unit("TiB", BYTES, Fraction(2**40)),
        Unit("kB", BYTES, Fraction(10**3)),
        Unit("MB", BYTES, Fraction(10**6)),
        Unit("GB", BYTES, Fraction(10**9)),
        Unit("TB", BYTES, Fraction(10**12)),
        Unit("tok", TOK, Fraction(1)),
        Unit("params", PARAMS, Fraction(1)),
        Unit("layers", NUMBER, Fraction(1), "layers"),
        Unit("s", TIME, Fraction(1)),
        Unit("ms", TIME, Fraction(1, 10**3)),
        Unit("us", TIME, Fraction(1, 10**6)),
        Unit("tok/s", TOK_PER_S, Fraction(1)),
        Unit("req/s", REQ_PER_S, Fraction(1)),
        Unit("W", WATT, Fraction(1)),
        Unit("kW", WATT, Fraction(10**3)),
        Unit("J/tok", J_PER_TOK, Fraction(1)),
        Unit("%", NUMBER, Fraction(1, 100), "ratio"),
        Unit("x", NUMBER, Fraction(1), "ratio"),
    )
}

_DECIMAL = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@functools.cache
def factor(letter: str, unit: str) -> Fraction:
    """What a number is multiplied by that stands before a magnitude letter and a unit."""
    return magnitude(letter, unit) * (UNITS[unit].scale if unit else 1)


def magnitude(letter: str, unit: str) -> Fraction:
    """The factor of a magnitude letter before `unit`.

    `K` before `tok` is 1024 because it counts context; `M`, `B` and `T` are powers of ten
    because they count corpora and parameters. A `K` anywhere else is 1000.
    """
    if not letter:
        return Fraction(1)
    if letter == "K" and unit == "tok":
        return Fraction(1024)
    return Fraction(_DECIMAL[letter])


class Quantity(Struct, frozen=True):
    """An exact value in base units, with the unit the user wrote (for printing)."""

    value: Fraction
    dimension: Dimension = NUMBER
    unit: str = ""

    def __str__(self) -> str:
        return format_quantity(self.value, self.dimension, self.unit)


def significant(value: float | Fraction, digits: int = 4) -> str:
    """Shortest decimal text with `digits` significant digits and no exponent above 1e-6."""
    number = float(value)
    if number == 0:
        return "0"
    text = f"{number:.{digits}g}"
    if "e" in text and 1e-6 <= abs(number) < 1e15:
        text = f"{float(text):.12f}".rstrip("0").rstrip(".")
    return text


def format_bytes(value: float | Fraction) -> str:
    """Bytes in the largest binary unit that keeps the number at 1 or above: `46.56GiB`."""
    for name in ("TiB", "GiB", "MiB", "KiB"):
        scaled = float(value) / float(UNITS[name].scale)
        if abs(scaled) >= 1:
            return f"{scaled:.2f}{name}" if scaled < 100 else f"{scaled:.1f}{name}"
    return f"{int(value)}B"


def format_params(value: float | Fraction) -> str:
    """A parameter count as `116.83B`, `134.5M` or `812.4K`."""
    for letter, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        scaled = float(value) / scale
        if abs(scaled) >= 1:
            return f"{scaled:.2f}{letter}" if scaled < 1000 else f"{scaled:.0f}{letter}"
    return str(int(value))


def format_tokens(value: float | Fraction) -> str:
    """A length in tokens: `8K` where it is a multiple of 1024, else plain digits."""
    number = int(value)
    return f"{number // 1024}K" if number >= 1024 and number % 1024 == 0 else str(number)


def float32(value: float) -> float:
    """The nearest float32, as Python's wider float."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def format_scale(value: float) -> str:
    """A float32 in the fewest digits, at least four, that give it back."""
    texts = (f"{value:.{digits}g}" for digits in range(4, 10))
    return next(text for text in texts if float32(float(text)) == value)


def format_layers(indices: Iterable[int], separator: str = ", ") -> str:
    """Layer numbers with runs folded: `15, 17, 19, 21-35`."""
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return separator.join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def format_quantity(value: float | Fraction, dimension: Dimension, unit: str = "") -> str:
    """A value in the unit the user used, or in the most readable one of its dimension."""
    if unit == "%":
        return f"{significant(Fraction(value) * 100)}%"
    if unit == "x":
        return f"{float(value):.2f}x"
    if dimension == BYTES:
        return format_bytes(value)
    if dimension == PARAMS:
        return format_params(value)
    if dimension == TOK:
        return f"{format_tokens(value)} tok"
    if dimension == TIME:
        return (
            f"{significant(Fraction(value) * 1000)} ms" if value < 1 else f"{significant(value)} s"
        )
    if dimension == NUMBER:
        return significant(value) if Fraction(value).denominator != 1 else str(int(value))
    return f"{significant(value)} {dimension}"
