"""A model family as data: what its `config.json` calls things, and which tensors it has.

In: the TOML files beside this one. Out: frozen `Family` values. To add a family, add a file: the
shapes are products of facts (`heads*head_dim`, `hidden/32`), the conditions are flags (`tied`,
`not mxfp4`). A file that does not hold together is our bug and raises `ValueError` with its name.
Not here: a particular model (`geometry.py`, `expected.py`), nor the classes that run a child
(`surgery_runtime.classes`).
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

PER_LAYER = ("heads", "kv_heads", "head_dim", "width", "dense_width", "experts", "active")
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
    """How a family says which layers see a window.

    `size` is the key of the window. With `types`, a list of words says which layers have it; `full`
    and `sliding` are the words, `repeat` the pattern where the list is missing. Without, all layers
    have it, if it is a number and the flags of `when` hold.
    """

    size: str
    types: str | None = None
    full: str = ""
    sliding: str = ""
    repeat: tuple[str, ...] = ()
    when: tuple[str, ...] = ()


class Blocks(Struct, frozen=True):
    """A list of `config.json` with an object per layer that overrides facts of that layer.

    `no_attention` and `no_mlp` are the keys that, when true, take the block away; `sinks` is that
    of the first tokens that a window leaves in sight, in families that can.
    """

    key: str
    no_attention: str
    no_mlp: str
    sinks: str | None = None


class Dense(Struct, frozen=True):
    """Which layers of a mixture of experts have a dense FFN instead, `dense_width` wide.

    `listed` is the key of a list of layers, `step` that of a number: of every `step` layers the
    last one has experts.
    """

    listed: str
    step: str


class Router(Struct, frozen=True):
    """How a mixture chooses: softmax over all experts, and the best `active` of them.

    `module` is the name that Transformers gives the router. Weights of the chosen experts are
    divided by their sum where all flags of `renormalised` hold. (A softmax over the chosen alone,
    as in gpt-oss, is the same as one over all, renormalised.)
    """

    module: str
    renormalised: tuple[str, ...] = ()


class Child(Struct, frozen=True):
    """How children are written: the class of Transformers where layers are alike, else `mixed`.

    `mixed` is a model type of `surgery_runtime.classes`. Its `block_configs` are nested as those of
    Nemotron-NAS, or flat: one dict per layer with the family's own keys. `theta` and `scaling` are
    the rotary embedding where a config says nothing.
    """

    stock: str
    mixed: str
    nested: bool
    theta: float
    scaling: Mapping[str, object]


class Template(Struct, frozen=True):
    """A tensor, or one per layer when the name holds `{layer}`, or per expert with `{expert}`.

    `shape` are products, `axes` the names of `ir.TensorSpec`, `when` flags that must all hold.
    `dtype` `None` is the model's own; `params` are parameters per stored element. `parameter` is
    what Transformers calls it in memory, where that is another name; of an expert's tensor, the
    parameter in which slice e of axis 0 holds the pieces of expert e, in the order of `piece`.
    """

    name: str
    shape: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    site: Site | None = None
    when: tuple[str, ...] = ()
    dtype: str | None = None
    params: int = 1
    parameter: str | None = None
    piece: int = 0

    @property
    def per_layer(self) -> bool:
        """Whether every layer has one."""
        return "{layer}" in self.name

    @property
    def per_expert(self) -> bool:
        """Whether every expert has one."""
        return "{expert}" in self.name


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
    child: Child
    dense: Dense | None = None
    router: Router | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        """What layers have besides attention."""
        return (self.mlp,) if self.dense is None else (self.mlp, Site.FFN)


def holds(words: tuple[str, ...], conditions: frozenset[str]) -> bool:
    """Whether all flags of `words` are among `conditions`, or are not where it says `not`."""
    return all(
        (word.removeprefix("not ") in conditions) != word.startswith("not ") for word in words
    )


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


def family_named(name: str) -> Family:
    """The family of that name; `KeyError` if there is none."""
    for family in families():
        if family.name == name:
            return family
    raise KeyError(f"no family {name!r}")


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
        child=_child(data.pop("child")),
        dense=_dense(data.pop("dense")) if "dense" in data else None,
        router=_router(data.pop("router")) if "router" in data else None,
    )
    if data:
        raise ValueError(f"unknown keys {sorted(data)}")
    _check(family)
    return family


def _check(family: Family) -> None:
    for where, words in _conditional(family):
        known = {*family.flags, *family.quantisations}
        unknown = {word.removeprefix("not ") for word in words} - known
        if unknown:
            raise ValueError(f"{where}: unknown conditions {sorted(unknown)}")
    if (family.mlp is Site.EXPERTS) is not (family.router is not None):
        raise ValueError("a family has a router if, and only if, it has experts")
    if (family.dense is not None) is not ("dense_width" in family.facts):
        raise ValueError("`dense` and the fact `dense_width` go together")
    for template in (*family.tensors, *family.ignored):
        _check_template(template, family)


def _check_template(template: Template, family: Family) -> None:
    if len(template.shape) != len(template.axes):
        raise ValueError(f"{template.name}: shape and axes differ in length")
    for text in template.shape:
        terms = {t for t in re.split(r"[*/]", text) if not t.isdigit()}
        if not _PRODUCT.fullmatch(text) or terms - family.facts.keys():
            raise ValueError(f"{template.name}: `{text}` is no product of facts")
    if template.site not in (None, Site.ATTENTION, *family.sites):
        raise ValueError(f"{template.name}: this family has no site {template.site}")
    if template.per_expert and (template.site is not Site.EXPERTS or not template.parameter):
        raise ValueError(f"{template.name}: a tensor of one expert needs a `parameter`")


def _conditional(family: Family) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Everything that depends on flags: where it is, and the words."""
    for template in (*family.tensors, *family.ignored):
        yield template.name, template.when
    if family.windows is not None:
        yield "windows", family.windows.when
    if family.router is not None:
        yield "router", family.router.renormalised


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
    sinks = None if "sinks" not in table else _text(table["sinks"])
    return Blocks(_text(table["key"]), _text(table["no_attention"]), _text(table["no_mlp"]), sinks)


def _windows(value: object) -> Windows:
    table = _table(value)
    size, when = _text(table["size"]), _texts(table.get("when", []))
    if "types" not in table:
        return Windows(size, when=when)
    types, repeat = _text(table["types"]), _texts(table["repeat"])
    return Windows(size, types, _text(table["full"]), _text(table["sliding"]), repeat, when)


def _dense(value: object) -> Dense:
    table = _table(value)
    return Dense(_text(table["listed"]), _text(table["step"]))


def _router(value: object) -> Router:
    table = _table(value)
    return Router(_text(table["module"]), _texts(table["renormalised"]))


def _child(value: object) -> Child:
    table = _table(value)
    theta = table["theta"]
    if not isinstance(theta, float) or table["blocks"] not in ("flat", "nested"):
        raise ValueError("`child` needs `theta`, and `blocks` that are flat or nested")
    scaling = MappingProxyType(_table(table.get("scaling", {"rope_type": "default"})))
    nested = table["blocks"] == "nested"
    return Child(_text(table["stock"]), _text(table["mixed"]), nested, theta, scaling)


def _template(value: object) -> Template:
    table = _table(value)
    site, dtype, params = table.get("site"), table.get("dtype"), table.get("params", 1)
    parameter, piece = table.get("parameter"), table.get("piece", 0)
    unknown = table.keys() - set(Template.__struct_fields__)
    if unknown or not isinstance(params, int) or not isinstance(piece, int):
        raise ValueError(f"{table['name']}: unknown or wrong keys {sorted(unknown)}")
    return Template(
        name=_text(table["name"]),
        shape=_texts(table.get("shape", [])),
        axes=_texts(table.get("axes", [])),
        site=None if site is None else Site(_text(site)),
        when=_texts(table.get("when", [])),
        dtype=None if dtype is None else _text(dtype),
        params=params,
        parameter=None if parameter is None else _text(parameter),
        piece=piece,
    )
