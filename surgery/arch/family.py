"""A model family as data: what its `config.json` calls things, and which tensors it has.

In: the TOML files beside this one. Out: frozen `Family` values. To add a family, add a file: the
shapes are products of facts (`heads*head_dim`, `hidden/32`), the conditions are flags (`tied`,
`not mxfp4`). A file that does not hold together is our bug and raises `ValueError` with its name.
Not here: a particular model (`geometry.py`, `expected.py`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import cast

from msgspec import Struct

from surgery.ir import Site

PER_LAYER = ("heads", "kv_heads", "head_dim", "width", "experts")
"""Facts that may differ by layer; the others hold for the whole model."""

_TERM = r"(?:[a-z_]+|[0-9]+)"
_PRODUCT = re.compile(rf"{_TERM}(?:[*/]{_TERM})*")
_STEP = re.compile(rf"([*/]?)({_TERM})")


class Fact(Struct, frozen=True):
    """A whole number of `config.json`: the first of `keys` that is there, else a product."""

    keys: tuple[str, ...]
    default: str | None = None


class Flag(Struct, frozen=True):
    """A truth value of `config.json`."""

    key: str
    default: bool


class Windows(Struct, frozen=True):
    """How a family says which layers see a window: keys, the two words, the default pattern."""

    size: str
    types: str
    full: str
    sliding: str
    repeat: tuple[str, ...]


class Blocks(Struct, frozen=True):
    """A list of `config.json` with an object per layer that overrides facts of that layer.

    `no_attention` and `no_mlp` are the keys that, when true, take the block away.
    """

    key: str
    no_attention: str
    no_mlp: str


class Template(Struct, frozen=True):
    """A tensor, or one per layer when the name holds `{layer}`.

    `shape` are products, `axes` the names of `ir.TensorSpec`, `when` flags that must all hold.
    `dtype` `None` is the model's own; `params` are parameters per stored element.
    """

    name: str
    shape: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    site: Site | None = None
    when: tuple[str, ...] = ()
    dtype: str | None = None
    params: int = 1

    @property
    def per_layer(self) -> bool:
        """Whether every layer has one."""
        return "{layer}" in self.name


class Family(Struct, frozen=True):
    """Everything known about a family; see the TOML files for the meaning of each part.

    `unread` are keys that change the model in ways not modelled here, so that they must be
    absent or null.
    """

    name: str
    model_types: tuple[str, ...]
    mlp: Site
    dtype: str
    quantisations: tuple[str, ...]
    blocks: Blocks | None
    unread: tuple[str, ...]
    facts: Mapping[str, Fact]
    flags: Mapping[str, Flag]
    windows: Windows | None
    tensors: tuple[Template, ...]
    ignored: tuple[Template, ...]


def product(text: str, values: Mapping[str, int]) -> int:
    """The value of `heads*head_dim` or `hidden/32`, left to right.

    Raises `ValueError` where a division leaves a rest, `KeyError` for a fact without value.
    """
    result = 1
    for operator, term in cast("list[tuple[str, str]]", _STEP.findall(text)):
        value = int(term) if term.isdigit() else values[term]
        if operator == "/":
            result, rest = divmod(result, value)
            if rest:
                raise ValueError(f"`{text}` is not whole")
        else:
            result *= value
    return result


def families() -> Iterator[Family]:
    """Every family there is, by name; each file is read when it is reached, and once."""
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        yield _shipped(path)


@cache
def _shipped(path: Path) -> Family:
    return load_family(path.stem, path.read_text("utf-8"))


def load_family(name: str, text: str) -> Family:
    """The family that the TOML `text` describes; raises `ValueError` where it is wrong."""
    try:
        return _build(name, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"family file {name}.toml: {error}") from error


def _build(name: str, data: dict[str, object]) -> Family:
    windows = data.pop("windows", None)
    flags = {key: _flag(value) for key, value in _table(data.pop("flags")).items()}
    facts = {key: _fact(value) for key, value in _table(data.pop("facts")).items()}
    family = Family(
        name=name,
        model_types=_texts(data.pop("model_types")),
        mlp=Site(_text(data.pop("mlp"))),
        dtype=_text(data.pop("dtype")),
        quantisations=_texts(data.pop("quantisations")),
        blocks=_blocks(data.pop("blocks")) if "blocks" in data else None,
        unread=_texts(data.pop("unread")),
        facts=MappingProxyType(facts),
        flags=MappingProxyType(flags),
        windows=None if windows is None else _windows(windows),
        tensors=tuple(_template(item) for item in _list(data.pop("tensors"))),
        ignored=tuple(_template(item) for item in _list(data.pop("ignored", []))),
    )
    if data:
        raise ValueError(f"unknown keys {sorted(data)}")
    _check(family)
    return family


def _check(family: Family) -> None:
    conditions = {*family.flags, *family.quantisations}
    for template in (*family.tensors, *family.ignored):
        unknown = {word.removeprefix("not ") for word in template.when} - conditions
        if unknown:
            raise ValueError(f"{template.name}: unknown conditions {sorted(unknown)}")
        if len(template.shape) != len(template.axes):
            raise ValueError(f"{template.name}: shape and axes differ in length")
        for text in template.shape:
            terms = {t for t in re.split(r"[*/]", text) if not t.isdigit()}
            if not _PRODUCT.fullmatch(text) or terms - family.facts.keys():
                raise ValueError(f"{template.name}: `{text}` is no product of facts")
        if template.site not in (None, Site.ATTENTION, family.mlp):
            raise ValueError(f"{template.name}: this family has no site {template.site}")


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no table")
    return cast("dict[str, object]", value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return cast("list[object]", value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _fact(value: object) -> Fact:
    table = _table(value)
    default = table.get("default")
    return Fact(_texts(table["keys"]), None if default is None else _text(default))


def _flag(value: object) -> Flag:
    table = _table(value)
    return Flag(_text(table["key"]), table["default"] is True)


def _blocks(value: object) -> Blocks:
    table = _table(value)
    return Blocks(_text(table["key"]), _text(table["no_attention"]), _text(table["no_mlp"]))


def _windows(value: object) -> Windows:
    table = _table(value)
    size, types = _text(table["size"]), _text(table["types"])
    repeat = _texts(table["repeat"])
    return Windows(size, types, _text(table["full"]), _text(table["sliding"]), repeat)


def _template(value: object) -> Template:
    table = _table(value)
    site, dtype, params = table.get("site"), table.get("dtype"), table.get("params", 1)
    unknown = table.keys() - {"name", "shape", "axes", "site", "when", "dtype", "params"}
    if unknown or not isinstance(params, int):
        raise ValueError(f"{table['name']}: unknown or wrong keys {sorted(unknown)}")
    return Template(
        name=_text(table["name"]),
        shape=_texts(table.get("shape", [])),
        axes=_texts(table.get("axes", [])),
        site=None if site is None else Site(_text(site)),
        when=_texts(table.get("when", [])),
        dtype=None if dtype is None else _text(dtype),
        params=params,
    )
