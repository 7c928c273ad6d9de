"""What a checkpoint is, layer by layer: architecture, parameters, bytes, dtypes.

In: a directory with a `config.json` and perhaps safetensors. Out: `Inspection`, text and JSON of
it. A family that `surgery/arch` knows is read as every parent is, so a checkpoint that contradicts
its config is refused (E0411, E0004). Of any other family the headers are shown: what is stored in
each layer, without a word on what it means. Reads no weights. Not here: whether a checkpoint is
what a plan says (`passes/verify.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict, replace

from surgery import catalog, sizes
from surgery.arch.cache import cached, scaled_layers
from surgery.diagnostics import Stop
from surgery.ir import Attention, Experts, Ffn, Layer, Linear, Model, Site, TensorSpec
from surgery.passes.resolve import read_config, read_model
from surgery.sources.fetched import Fetched
from surgery.tensors.headers import Stored, open_checkpoint
from surgery.units import format_bytes, format_layers, format_params, format_tokens

FORMAT_VERSION = 1

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.([0-9]{1,5})\.")


class Row(Struct, frozen=True):
    """One layer. `attention` and `mlp` say what it is, where the family is known.

    `params` is `None` where it cannot be told (packed weights of an unknown family); `kv` are
    bytes of KV cache per token, in BF16 unless there are scales for FP8.
    """

    layer: int
    attention: str
    mlp: str
    params: int | None
    weights: int
    kv: int | None
    dtypes: tuple[str, ...]


class Inspection(Struct, frozen=True):
    """A checkpoint. `rest` lies outside of the layers; `stored` is false without weights."""

    model_type: str
    known: bool
    facts: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    rest: Row
    stored: bool

    @property
    def params(self) -> int | None:
        """All parameters, tied ones counted once."""
        counts = [row.params for row in (*self.rows, self.rest)]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def weights(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(row.weights for row in (*self.rows, self.rest))


def inspect(directory: Path, cache: Path) -> Inspection:
    """Look at a checkpoint. Raises `Stop` (E0001, E0004, E0411)."""
    config = read_config(directory)
    model_type = config.get("model_type")
    name = model_type if isinstance(model_type, str) else "unknown"
    try:
        found = read(directory, cache)
    except Stop as stop:
        if stop.diagnostic.code is not catalog.E0401:
            raise
        return _foreign(name, directory)
    return _known(name, found)


def read(directory: Path, cache: Path) -> Model:
    """A checkpoint of a known family, its FP8 caches included. Raises `Stop`, E0401 as well."""
    model = read_model(Fetched(directory, str(directory)), cache, hashing=False)
    return _with_scales(model, directory)


# ---- families that are data ------------------------------------------------------------------


def _with_scales(model: Model, directory: Path) -> Model:
    """The model with the KV caches that its scales make FP8; a parent has none of its own."""
    stored = open_checkpoint(directory).tensors
    scaled = scaled_layers(stored)
    specs = (
        TensorSpec(name, stored[name].shape, stored[name].dtype, (), n, Site.ATTENTION, size, 0)
        for n, names in scaled.items()
        for name in names
        for size in (stored[name].nbytes,)
    )
    layers = cached(model.layers, stored)
    return replace(model, layers=layers, tensors=(*model.tensors, *specs))


def _known(model_type: str, model: Model) -> Inspection:
    by_layer: dict[int | None, list[TensorSpec]] = {}
    for tensor in model.tensors:
        by_layer.setdefault(tensor.layer, []).append(tensor)
    facts = (
        ("hidden", str(model.hidden)),
        ("vocab", str(model.vocab)),
        ("context", f"{format_tokens(model.context)} tok"),
        ("embeddings", "tied" if model.tied else "not tied"),
    )
    rows = tuple(_layer_row(layer, by_layer.get(layer.index, [])) for layer in model.layers)
    rest = _row(-1, ("", ""), by_layer.get(None, []), None)
    return Inspection(model_type, True, facts, rows, rest, stored=bool(model.files))


def _layer_row(layer: Layer, tensors: Sequence[TensorSpec]) -> Row:
    blocks = (_attention(layer.attention), _mlp(layer.mlp))
    return _row(layer.index, blocks, tensors, sizes.kv_per_token(layer.attention))


def _row(layer: int, blocks: tuple[str, str], tensors: Sequence[TensorSpec], kv: int | None) -> Row:
    params, weights = sum(t.numel for t in tensors), sum(t.nbytes for t in tensors)
    return Row(layer, *blocks, params, weights, kv, tuple(sorted({t.dtype for t in tensors})))


def _attention(block: Attention | Linear | None) -> str:
    if not isinstance(block, Attention):
        return "no attention" if block is None else "linear"
    sees = "full" if block.window is None else f"window {format_tokens(block.window)} tok"
    sees += f" and the first {block.sinks}" if block.sinks else ""
    cached = "" if block.kv_dtype == "bf16" else " in FP8"
    return f"{sees}, {block.heads} heads, {block.kv_heads} KV, of {block.head_dim}{cached}"


def _mlp(block: Ffn | Experts | Linear | None) -> str:
    match block:
        case Linear():
            return "linear"
        case None:
            return "no FFN"
        case Ffn(width=width):
            return f"FFN {width}"
        case Experts(count=count, active=active, width=width):
            return f"{count} experts of {width}, {active} active"


# ---- any other -------------------------------------------------------------------------------


def _foreign(model_type: str, directory: Path) -> Inspection:
    checkpoint = open_checkpoint(directory)
    by_layer: dict[int, list[Stored]] = {}
    for tensor in checkpoint.tensors.values():
        found = _LAYER.search(tensor.name)
        by_layer.setdefault(int(found[1]) if found else -1, []).append(tensor)
    rows = {layer: _stored_row(layer, tensors) for layer, tensors in sorted(by_layer.items())}
    rest = rows.pop(-1, Row(-1, "", "", 0, 0, None, ()))
    return Inspection(
        model_type, False, (), tuple(rows.values()), rest, stored=bool(checkpoint.tensors)
    )


def _stored_row(layer: int, tensors: Iterable[Stored]) -> Row:
    found = tuple(tensors)
    dtypes = tuple(sorted({tensor.dtype for tensor in found}))
    # Bytes that are neither weights nor floats are packed, and nobody here knows how.
    params = 0
    for tensor in found:
        count = 1
        for dimension in tensor.shape:
            count *= dimension
        params += count
    known = all(dtype in ("BF16", "F16", "F32", "F64") for dtype in dtypes)
    counted = f"{len(found)} tensors"
    weights = sum(tensor.nbytes for tensor in found)
    return Row(layer, counted, "", params if known else None, weights, None, dtypes)


# ---- views -----------------------------------------------------------------------------------


def text(found: Inspection, name: str) -> str:
    """For a terminal: layers that are alike share a line."""
    facts = ", ".join(f"{key} {value}" for key, value in found.facts)
    head = f"{name}: {found.model_type}, {len(found.rows)} layers" + (f", {facts}" if facts else "")
    lines: list[tuple[str, ...]] = [
        ("layers", "attention", "mlp", "params", "weights", "KV/tok", "stored as")
    ]
    if not found.known:
        lines = [("layers", "holds", "", "params", "weights", "", "stored as")]
    alike = sorted(found.rows, key=lambda row: (_kind(row), row.layer))
    groups = [tuple(group) for _, group in groupby(alike, key=_kind)]
    for group in sorted(groups, key=lambda group: group[0].layer):
        lines.append((format_layers((row.layer for row in group), " "), *_cells(group)))
    lines.append(("rest", *_cells((found.rest,))))
    total = Row(-1, "", "", found.params, found.weights, None, ())
    lines.append(("all", *_cells((total,))))
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    body = "\n".join(
        "  ".join(
            cell.rjust(width) if column in (3, 4, 5) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    notes: list[str] = []
    if not found.known:
        notes.append(
            f"`{found.model_type}` is no family that surgery knows: shown is what is stored."
        )
    if not found.stored:
        notes.append("There are no weights here: sizes follow from config.json.")
    return "\n\n".join((head, body, *notes))


def _kind(row: Row) -> tuple[str, str, int, int, tuple[str, ...]]:
    return (row.attention, row.mlp, row.params or -1, row.weights, row.dtypes)


def _cells(group: tuple[Row, ...]) -> tuple[str, ...]:
    first, count = group[0], len(group)
    params = "?" if first.params is None else format_params(count * first.params)
    kv = "" if first.kv is None else format_bytes(count * first.kv)
    return (
        first.attention,
        first.mlp,
        params,
        format_bytes(count * first.weights),
        kv,
        " ".join(first.dtypes),
    )


def to_json(found: Inspection) -> str:
    """Exact integers, one object per layer."""
    data = {
        "format_version": FORMAT_VERSION,
        "model_type": found.model_type,
        "known": found.known,
        "stored": found.stored,
        "facts": dict(found.facts),
        "params": found.params,
        "weights": found.weights,
        "layers": [asdict(row) for row in found.rows],
        "rest": asdict(found.rest),
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
