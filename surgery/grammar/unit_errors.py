"""What to say about a unit that does not exist (E0104).

In: a number and the word after it. Out: a diagnostic that shows the units it could be. Units exist
in `scan.UNITS`; what they mean is not known here.
"""

from __future__ import annotations

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar.near import nearest
from surgery.grammar.scan import UNITS
from surgery.source import Span

# Words that people write for a unit, and what that may be here. Lower case.
_MEANT = {
    "g": ("GiB", "GB"),
    "gi": ("GiB",),
    "gb": ("GB", "GiB"),
    "gib": ("GiB",),
    "m": ("M", "MiB", "MB"),
    "mi": ("MiB",),
    "mb": ("MB", "MiB"),
    "mib": ("MiB",),
    "k": ("K",),
    "ki": ("KiB", "K tok"),
    "kb": ("kB", "KiB"),
    "kib": ("KiB",),
    "b": ("B",),
    "t": ("T",),
    "ti": ("TiB",),
    "tb": ("TB", "TiB"),
    "tib": ("TiB",),
    "token": (" tok",),
    "tokens": (" tok",),
    "toks": (" tok",),
    "param": (" params",),
    "parameters": (" params",),
    "layer": (" layers",),
    "s": (" s",),
    "sec": (" s",),
    "secs": (" s",),
    "second": (" s",),
    "seconds": (" s",),
    "msec": (" ms",),
    "msecs": (" ms",),
    "millisecond": (" ms",),
    "milliseconds": (" ms",),
    "usec": (" us",),
    "microseconds": (" us",),
    "tps": (" tok/s",),
    "qps": (" req/s",),
    "rps": (" req/s",),
    "watt": (" W",),
    "watts": (" W",),
    "joule": (" J/tok",),
    "joules": (" J/tok",),
    "gigabyte": ("GB", "GiB"),
    "gigabytes": ("GB", "GiB"),
    "megabyte": ("MB", "MiB"),
    "megabytes": ("MB", "MiB"),
    "terabyte": ("TB", "TiB"),
    "terabytes": ("TB", "TiB"),
    "thousand": ("K",),
    "million": ("M",),
    "billion": ("B",),
    "trillion": ("T",),
    "percent": ("%",),
    "times": ("x",),
}
_NOTE = (
    "units are KiB, MiB, GiB, TiB, kB, MB, GB, TB; tok, params, layers; us, ms, s; tok/s, req/s; "
    "W, kW, J/tok; % and x"
)


def meant(word: str) -> tuple[str, ...]:
    """What may follow the number instead of this word, with the blank that belongs before it."""
    known = _MEANT.get(word.lower())
    if known is not None:
        return known
    of, per, time = word.lower().partition("/")
    if per and time[:1] == "s":
        rate = " tok/s" if of[:3] == "tok" else " req/s" if of[:3] == "req" else ""
        return (rate,) if rate else ()
    blank = {"%", "x"}
    return tuple(u if u in blank or u[-1] == "B" else f" {u}" for u in nearest(word, UNITS))


def unknown_unit(number: Span, word: Span) -> Diagnostic:
    """A number is followed by a word that is no unit."""
    whole = number.to(word)
    helps = tuple(
        Help(f"write `{number.text}{unit}`", _replace(whole, number.text + unit))
        for unit in meant(word.text)
    )
    if not helps:
        helps = (Help(f"write `{number.text}` alone", _replace(whole, number.text)),)
    message, text = f"there is no unit `{word.text}`", "not a unit"
    if word.text == "G":
        message, text = f"`{whole.text}` does not say which bytes it counts", "GiB or GB"
    elif word.text in ("k", "m", "b", "t"):
        message, text = f"there is no magnitude `{word.text}`", "magnitudes are K, M, B and T"
    label = Label(whole, text, primary=True)
    return Diagnostic(catalog.E0104, message, (label,), notes=(_NOTE,), helps=helps)


def _replace(span: Span, text: str) -> Fix:
    return Fix((Edit(span, text),), Safety.DISPLAY)
