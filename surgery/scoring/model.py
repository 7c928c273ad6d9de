"""The parent in float32, and children of one layer, from the exact bits that will be emitted.

In: a `Model` with files, candidates of its space. Out: `Parent`, whose layers can be run in parts
and swapped. Every tensor is made by the operation that `emit` would stream to disk, then widened
(`parameters.py`). Needs weight files (`identity.require_weights`). Not here: what is measured
(`swap.py`), nor the formula of any layer: that is `surgery_runtime.hf`, which the emitted
checkpoint runs too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Protocol, cast

from msgspec import Struct
from torch import Tensor, nn

from surgery import edits
from surgery.arch.rope import stretched
from surgery.ir import Attention, Candidate, Experts, Ffn, Layer, Linear, Model, Scales
from surgery.ops import Constant
from surgery.scoring.parameters import parameter_of, widened
from surgery.tensors.ops import Array, tensor_reader


class Decoder(Protocol):
    """The model's own modules, under the names that its checkpoint uses."""

    embed_tokens: nn.Module
    layers: nn.ModuleList
    norm: nn.Module
    rotary_emb: nn.Module


class CausalLM(Protocol):
    """What `surgery_runtime.hf.build` returns: a model that runs in parts.

    `begin` embeds int64 tokens [batch, length] into [batch, length, hidden] and gives the state
    that layers share; `run` applies layers [start, stop); parts compose to the forward pass.
    """

    model: Decoder
    lm_head: nn.Linear

    def begin(self, input_ids: Tensor) -> tuple[Tensor, object]:
        """Embed, and prepare what the layers share."""
        ...

    def run(self, hidden: Tensor, state: object, start: int, stop: int) -> Tensor:
        """Apply layers [start, stop)."""
        ...

    def make_layer(self, index: int, layer: dict[str, object]) -> nn.Module:
        """An empty layer of the geometry that `describe` gives."""
        ...


class Parent(Struct, frozen=True):
    """A loaded parent: its description, its module in float32, its tensors as stored."""

    model: Model
    module: CausalLM
    read: Callable[[str], Array]

    @property
    def head(self) -> Tensor:
        """The output head, float32 [vocab, hidden]."""
        return self.module.lm_head.weight

    def normalised(self, hidden: Tensor) -> Tensor:
        """The final norm: float32 [..., hidden] -> the same shape."""
        return cast("Tensor", self.module.model.norm(hidden))


def load_parent(model: Model) -> Parent:
    """Load every weight of the parent in float32. Raises `Stop` (E0001, E0004)."""
    from surgery_runtime import hf

    module = cast("CausalLM", hf.build(dict(model.config)))
    parent = Parent(model, module, tensor_reader(model))
    outputs = edits.child_outputs(model, ())
    _load(cast("nn.Module", module), widened(outputs, model.tensors, parent.read), "")
    return parent


def make_layer(parent: Parent, chosen: tuple[Candidate, ...]) -> tuple[int, nn.Module]:
    """A layer of the parent with the blocks of `chosen` in place of its own, and its index.

    All candidates must belong to one layer. Tensors that no candidate cuts are shared with the
    parent's layer, so a child costs the memory of what it changes.
    """
    index = chosen[0].layer
    layer = edits.child_layers(parent.model, chosen)[index]
    scales = next((c.scales for c in chosen if edits.scaled(c)), None)
    made = parent.module.make_layer(index, describe(layer, scales)).requires_grad_(False)
    prefix = f"model.layers.{index}."
    tensors = dict(parent.module.model.layers[index].state_dict())
    for candidate in chosen:
        for spec in edits.block_tensors(parent.model, index, candidate.site):
            tensors.pop(parameter_of(spec).removeprefix(prefix), None)
    for candidate in chosen:
        parts = edits.outputs(parent.model, candidate)
        # Scales are no parameters: the layer was made with them.
        parts = (part for part in parts if not isinstance(part.op, Constant))
        specs = edits.block_tensors(parent.model, index, candidate.site)
        for name, tensor in widened(parts, specs, parent.read):
            tensors[name.removeprefix(prefix)] = tensor
    _load(made, tensors.items(), prefix)
    return index, made


@contextmanager
def swapped(parent: Parent, layers: Mapping[int, nn.Module]) -> Generator[None]:
    """Run the parent with other layers in the places given; it is whole again afterwards."""
    own = {index: parent.module.model.layers[index] for index in layers}
    try:
        for index, layer in layers.items():
            parent.module.model.layers[index] = layer
        yield
    finally:
        for index, layer in own.items():
            parent.module.model.layers[index] = layer


def make_rotary(parent: Parent, factor: float) -> nn.Module:
    """The rotary embedding of a child whose YaRN factor is `factor`."""
    from surgery_runtime import hf

    return cast("nn.Module", hf.rotary(dict(stretched(parent.model, factor).config), parent.module))


@contextmanager
def rotated(parent: Parent, rotary: nn.Module | None) -> Generator[None]:
    """Run the parent with another rotary embedding (`None`: its own)."""
    own = parent.module.model.rotary_emb
    try:
        parent.module.model.rotary_emb = rotary or own
        yield
    finally:
        parent.module.model.rotary_emb = own


def describe(layer: Layer, scales: Scales | None = None) -> dict[str, object]:
    """The geometry of one layer as `surgery_runtime.hf` takes it; `scales` of an FP8 cache."""
    return {"attention": _attention(layer.attention, scales), "mlp": _mlp(layer.mlp)}


def _attention(block: Attention | Linear | None, scales: Scales | None) -> dict[str, object] | None:
    if not isinstance(block, Attention):
        return None if block is None else {"linear": True}
    made: dict[str, object] = {
        "heads": block.heads,
        "kv_heads": block.kv_heads,
        "head_dim": block.head_dim,
        "window": block.window,
        "sinks": block.sinks,
    }
    if block.kv_dtype == "fp8_e4m3":
        if scales is None:
            raise ValueError("keys and values in FP8 need scales")
        made["kv_scales"] = (scales.k, scales.v)
    return made


def _mlp(block: Ffn | Experts | Linear | None) -> dict[str, object] | None:
    match block:
        case Linear():
            return {"linear": True}
        case None:
            return None
        case Ffn(width=width):
            return {"width": width}
        case Experts(count=count, active=active, width=width):
            return {"experts": count, "active": active, "width": width}


# ---- Tensors ---------------------------------------------------------------------------------


def _load(module: nn.Module, tensors: Iterable[tuple[str, Tensor]], prefix: str) -> None:
    """Put `tensors` in place of the module's parameters; every parameter must get one.

    Parameters are replaced, not filled: what the parent shares with a child stays shared. A tied
    head comes without a tensor of its own and keeps the embedding's.
    """
    expected = dict(module.named_parameters(remove_duplicate=False))
    tied = {id(p): n for n, p in module.named_parameters()}
    loaded = dict(tensors)
    for name, parameter in expected.items():
        source = name if name in loaded else tied[id(parameter)]
        if source not in loaded or loaded[source].shape != parameter.shape:
            found = tuple(loaded[source].shape) if source in loaded else "nothing"
            raise ValueError(f"{prefix}{name} {tuple(parameter.shape)} would get {found}")
    if unused := sorted(loaded.keys() - expected.keys()):
        raise ValueError(f"{prefix}{unused[0]} and {len(unused) - 1} others have no parameter")
    for name, parameter in expected.items():
        parameter.data = loaded[name if name in loaded else tied[id(parameter)]]
