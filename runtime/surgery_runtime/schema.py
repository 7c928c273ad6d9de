"""`runtime.json`: what a program must know to serve a checkpoint whose layers differ.

In: geometry, from the compiler; or the text of a file. Out: frozen dataclasses and canonical JSON
(same content, same bytes). Refuses, as `RuntimeFormatError`: another version, unknown, missing or
repeated keys, values that no model can have. Standard library only: whoever serves needs neither
torch nor the compiler to read it.

All counts are exact; a window counts tokens, the current one included; `null` in place of a block
means that the layer has none, in place of a window that attention is full. Dtypes are safetensors
names, and `MXFP4` for packed experts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, cast

FORMAT = "surgery-runtime"
VERSION = 1
FILE = "runtime.json"


class RuntimeFormatError(ValueError):
    """The text is no `runtime.json` of this version, and why."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Grouped-query attention: `heads` share `kv_heads` keys and values of `head_dim`.

    `kv_cache` is how they are cached: `F8_E4M3` goes with the tensors `self_attn.k_scale` and
    `self_attn.v_scale` of the layer, by which numbers are divided before they are stored. With a
    window, queries see the first `sink_tokens` of the sequence besides.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None
    kv_cache: str = "BF16"
    sink_tokens: int = 0

    def __post_init__(self) -> None:
        _positive(self, "heads", "kv_heads", "head_dim")
        _texts(self, "kv_cache")
        if self.window is not None:
            _positive(self, "window")
        if self.sink_tokens != 0:
            _positive(self, "sink_tokens")
            if self.window is None:
                raise RuntimeFormatError("sink tokens without a window")
        if self.heads % self.kv_heads:
            raise RuntimeFormatError(f"{self.kv_heads} KV heads do not divide {self.heads} heads")


@dataclass(frozen=True, slots=True)
class Ffn:
    """One dense gated FFN of intermediate size `width`."""

    width: int

    def __post_init__(self) -> None:
        _positive(self, "width")


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of `experts` of intermediate size `width`, `active` per token."""

    experts: int
    active: int
    width: int

    def __post_init__(self) -> None:
        _positive(self, "experts", "active", "width")
        if self.active > self.experts:
            raise RuntimeFormatError(f"{self.active} active experts of {self.experts}")


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer, [hidden, hidden] without a bias, in place of a block."""

    linear: bool = True

    def __post_init__(self) -> None:
        if self.linear is not True:
            raise RuntimeFormatError(f"`linear` is {self.linear!r}, not true")


Mlp: TypeAlias = Ffn | Experts | Linear


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; `None` where it has no such block."""

    attention: Attention | Linear | None
    mlp: Mlp | None


@dataclass(frozen=True, slots=True)
class Dtypes:
    """How numbers are stored: weights outside the experts, experts, cached keys and values.

    `cache` is what a layer's `kv_cache` may say differently.
    """

    weights: str
    experts: str | None
    cache: str

    def __post_init__(self) -> None:
        _texts(self, "weights", "cache")
        if self.experts is not None:
            _texts(self, "experts")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything in `runtime.json`; `checkpoint` is relative to it, `decision` the plan's hash."""

    checkpoint: str | None
    model_type: str
    decision: str
    backend: str | None
    context: int
    hidden: int
    vocab: int
    tied: bool
    dtypes: Dtypes
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        _positive(self, "context", "hidden", "vocab")
        _texts(self, "model_type", "decision")
        if not isinstance(cast("object", self.tied), bool):
            raise RuntimeFormatError(f"`tied` is {self.tied!r}, not true or false")
        if not self.layers:
            raise RuntimeFormatError("there are no layers")
        folder = self.checkpoint
        if folder is not None:
            _texts(self, "checkpoint")
        if self.backend is not None:
            _texts(self, "backend")
        if folder is not None and ("/" in folder or folder.startswith(".")):
            raise RuntimeFormatError(f"`checkpoint` is {folder!r}, not the name of a folder")

    def to_json(self) -> str:
        """Canonical text: keys sorted, one layer per line, final newline."""
        values: dict[str, Any] = {"format": FORMAT, "version": VERSION, **asdict(self)}
        layers = ",\n".join("    " + _compact(layer) for layer in values.pop("layers"))
        head = json.dumps(values, sort_keys=True, indent=2)
        head, _, tail = head.partition('  "model_type"')
        return f'{head}  "layers": [\n{layers}\n  ],\n  "model_type"{tail}\n'


def parse(text: str) -> Runtime:
    """The content of a `runtime.json`; raises `RuntimeFormatError`."""
    try:
        root = _object(json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant), "")
    except (json.JSONDecodeError, RecursionError) as error:
        raise RuntimeFormatError(f"this is not JSON: {error}") from error
    if root.pop("format", None) != FORMAT:
        raise RuntimeFormatError(f"this is not a {FORMAT} file")
    version = root.pop("version", None)
    if version != VERSION or isinstance(version, bool):
        raise RuntimeFormatError(f"version {version!r} is unknown; this is version {VERSION}")
    layers = root.get("layers")
    if not isinstance(layers, list):
        raise RuntimeFormatError("`layers` is not a list")
    read = [_layer(layer, index) for index, layer in enumerate(cast("list[object]", layers))]
    dtypes = Dtypes(**_fields(root.get("dtypes"), "dtypes", Dtypes))
    values = _fields(root, "the file", Runtime)
    values |= {"layers": tuple(read), "dtypes": dtypes}
    return Runtime(**values)


def read(directory: Path) -> Runtime:
    """The `runtime.json` in `directory`; raises `RuntimeFormatError` and `OSError`."""
    try:
        return parse((directory / FILE).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RuntimeFormatError("this is not UTF-8") from error


# ---- strict reading --------------------------------------------------------------------------


def _layer(value: object, index: int) -> Layer:
    where = f"layer {index}"
    blocks = _fields(value, where, Layer)
    attention, mlp = blocks["attention"], blocks["mlp"]
    try:
        return Layer(
            None if attention is None else _attention(attention, where),
            None if mlp is None else _mlp(mlp, where),
        )
    except RuntimeFormatError as error:
        raise RuntimeFormatError(f"{where}: {error}") from error


def _attention(value: object, where: str) -> Attention | Linear:
    if "linear" in _object(value, where):
        return Linear(**_fields(value, where, Linear))
    return Attention(**_fields(value, where, Attention))


def _mlp(value: object, where: str) -> Mlp:
    if "linear" in _object(value, where):
        return Linear(**_fields(value, where, Linear))
    if "experts" in _object(value, where):
        return Experts(**_fields(value, where, Experts))
    return Ffn(**_fields(value, where, Ffn))


def _fields(value: object, where: str, kind: Any) -> dict[str, Any]:
    found = _object(value, where)
    names = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if not needed <= set(found) <= names:
        different = ", ".join(sorted((set(found) - names) | (needed - set(found))))
        raise RuntimeFormatError(f"{where}: unknown or missing keys: {different}")
    return found


def _object(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RuntimeFormatError(f"{where or 'the file'} is not an object")
    return cast("dict[str, object]", value)


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RuntimeFormatError("a key appears twice")
    return found


def _constant(word: str) -> object:
    raise RuntimeFormatError(f"{word} is no JSON")


def _compact(value: Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True)


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value: object = getattr(owner, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RuntimeFormatError(f"`{name}` is {value!r}, not a whole number from 1")


def _texts(owner: object, *names: str) -> None:
    for name in names:
        value: object = getattr(owner, name)
        if not isinstance(value, str) or not value:
            raise RuntimeFormatError(f"`{name}` is {value!r}, not a text")
