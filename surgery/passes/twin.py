"""Checkpoint -> a twin of it that computes the same and that more programs can load.

In: a checkpoint whose family surgery knows, what the twin is to be, a folder. Out: `Twin`; on disk
`checkpoint/` and `provenance.json`, the same bytes every time, whole or not at all. `bf16` unpacks
MXFP4 experts: no value is rounded. `padded` gives every layer as many experts as the largest has;
those added are zero, and a router bias of -1e30 keeps them from being chosen, so that the family's
stock code runs it. Scales of an FP8 KV cache stay in a twin that only unpacks. Both kinds take more
memory than the checkpoint: twins are for holding engines against each other, not for serving.

A twin is made of a checkpoint, not of a spec: of any that can be read, whoever wrote it, at any
time, without its parent. So `twin` is a command, and not an option of `compile`, whose output is
what its plan says and nothing else. Weights are streamed: no more than one packed expert is in
memory.

Refuses, as `Stop`: nothing to unpack, or layers that differ in more than their experts (E0804);
places as `emit_place` does; malformed MXFP4 (E0004).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from math import prod
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog
from surgery.arch.cache import cached, is_scale, only_cache
from surgery.arch.configs import CLASSES, stock_config
from surgery.arch.per_layer import FILE as PER_LAYER
from surgery.arch.per_layer import per_layer_config
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import Experts, Layer, Model, TensorSpec
from surgery.ops import Copy, Output, Pad, TensorOp, Unpack
from surgery.passes.emit_files import MANIFEST_VERSION, carried, classes, operation
from surgery.passes.emit_place import MANIFEST, MANIFEST_FORMAT, reported, staged, sync, write_file
from surgery.tensors.headers import DTYPE_BYTES, open_checkpoint
from surgery.tensors.layout import layout
from surgery.tensors.write import WrittenTensor, write_checkpoint
from surgery.units import format_tokens

CHECKPOINT = "checkpoint"
NEVER = -1e30
"""A router bias that no token's logits outweigh, and that BF16 can hold."""
SHARD = 4 * 2**30
_BLOCKS, _SCALES = "_blocks", "_scales"


class Twin(Struct, frozen=True):
    """What was written: where, how many tensors, their bytes, how many are not copies."""

    directory: Path
    tensors: int
    nbytes: int
    changed: int


class Kind(Struct, frozen=True):
    """What a twin is to be; at least one of both."""

    bf16: bool
    padded: bool

    @property
    def words(self) -> str:
        """`bf16`, `padded` or both."""
        return " ".join(word for word in ("bf16", "padded") if getattr(self, word))


def run(model: Model, kind: Kind, out: Path, progress: Callable[[int], None] | None = None) -> Twin:
    """Write the twin of `model` into `out`; raises `Stop`, and then leaves nothing behind.

    `progress` is told the bytes of each tensor.
    """
    _check(model, kind)
    config = config_of(model, kind)
    model = _with_scales(model, kind)
    outputs = tuple(outputs_of(model, kind))
    with staged((out,), model.directory) as (folder,), reported(out):
        small = _small(model, kind, config)
        weights = folder / CHECKPOINT
        weights.mkdir(mode=0o755)
        for path, data in small.items():
            write_file(folder / path, data)
        written = write_checkpoint(weights, model, outputs, SHARD, progress=progress)
        sync(weights)
        write_file(folder / MANIFEST, _manifest(model, kind, outputs, written, small))
    changed = sum(not isinstance(output.op, Copy) for output in outputs)
    return Twin(out, len(outputs), sum(output.nbytes for output in outputs), changed)


# ---- what can be told in other words ---------------------------------------------------------


def _check(model: Model, kind: Kind) -> None:
    if kind.bf16 and not any(tensor.name.endswith(_BLOCKS) for tensor in model.tensors):
        help = "its weights are plain as they are: serve or compare it itself"
        raise _cannot(model, "holds no packed experts, so there is nothing to unpack", help)
    if not kind.padded:
        return
    blocks = [layer for layer in model.layers if isinstance(layer.mlp, Experts)]
    if not blocks:
        help = "a model without experts is what stock code runs, unless its layers differ"
        raise _cannot(model, "has no experts, so there is nothing to pad", help)
    routers = {t.layer for t in model.tensors if t.name.endswith("router.bias")}
    if any(layer.index not in routers for layer in blocks):
        help = "compare engines on a child with equally many experts in all layers"
        raise _cannot(model, "has routers without a bias, so no expert can be kept out", help)
    if stock_config(model, padded_layers(model)) is None:
        help = "pad a child of the same plan without its changes of attention and blocks"
        raise _cannot(
            model, f"has layers that stock code cannot tell apart: {_differ(model)}", help
        )


def _cannot(model: Model, what: str, help: str) -> Stop:
    message = f"`{model.name}` {what}"
    subject = str(model.directory)
    return Stop(Diagnostic(catalog.E0804, message, subject=subject, helps=(Help(help),)))


def _differ(model: Model) -> str:
    """In what layers differ, besides their number of experts."""
    attentions = [layer.attends for layer in model.layers if layer.attends is not None]
    blocks = [layer.mlp for layer in model.layers if isinstance(layer.mlp, Experts)]
    windows = sorted({a.window for a in attentions if a.window is not None})
    found: list[str] = []
    if len(windows) > 1:
        found.append("windows of " + ", ".join(f"{format_tokens(w)} tok" for w in windows))
    for what, values in (
        ("KV heads", {a.kv_heads for a in attentions}),
        ("active experts", {block.active for block in blocks}),
        ("width", {block.width for block in blocks}),
    ):
        if len(values) > 1:
            found.append(f"{what} of {', '.join(map(str, sorted(values)))}")
    if len(attentions) < len(model.layers) or len(blocks) < len(model.layers):
        found.append("blocks that are not there")
    return "; ".join(found) or "their windows are no pattern that stock code knows"


def padded_layers(model: Model) -> tuple[Layer, ...]:
    """The layers with as many experts as the largest has, and an ordinary KV cache."""
    most = _most(model)
    return tuple(
        Layer(
            layer.index,
            replace(layer.attends, kv_dtype="bf16") if layer.attends else layer.attention,
            replace(layer.mlp, count=most) if isinstance(layer.mlp, Experts) else layer.mlp,
        )
        for layer in model.layers
    )


def _most(model: Model) -> int:
    return max(layer.mlp.count for layer in model.layers if isinstance(layer.mlp, Experts))


def config_of(model: Model, kind: Kind) -> Mapping[str, object]:
    """The twin's `config.json`."""
    config = dict(model.config)
    if kind.padded:
        config = dict(stock_config(model, padded_layers(model)) or {})
    elif model.config.get("model_type") in CLASSES:
        config["auto_map"] = dict(CLASSES[str(model.config["model_type"])])
    quantised = config.get("quantization_config")
    if kind.bf16 or (kind.padded and only_cache(quantised)):
        config.pop("quantization_config", None)
    return config


# ---- tensors ---------------------------------------------------------------------------------


def _with_scales(model: Model, kind: Kind) -> Model:
    """The model with the scales of an FP8 KV cache among its tensors, where the twin keeps them."""
    if kind.padded:
        return model
    stored = open_checkpoint(model.directory).tensors
    scales = {name: tensor for name, tensor in stored.items() if is_scale(name)}
    specs = (
        TensorSpec(name, t.shape, t.dtype, (), None, None, t.nbytes, 0)
        for name, t in scales.items()
    )
    files = {**model.files, **{name: tensor.file for name, tensor in scales.items()}}
    return replace(model, tensors=(*model.tensors, *specs), files=files)


def outputs_of(model: Model, kind: Kind) -> Iterator[Output]:
    """The twin's tensors, in the order of the model's."""
    most = _most(model) if kind.padded else 0
    packed = {t.name for t in model.tensors if kind.bf16 and t.name.endswith(_BLOCKS)}
    for tensor in model.tensors:
        experts = tensor.shape[0] if tensor.axes[:1] == ("experts",) else 0
        count = max(experts, most)
        if tensor.name in packed:
            name = tensor.name.removesuffix(_BLOCKS)
            _, out, groups, _ = tensor.shape
            op = Unpack(tensor.name, name + _SCALES, count)
            yield _output(name, "BF16", (count, groups * 32, out), op)
        elif tensor.name.removesuffix(_SCALES) + _BLOCKS in packed:
            continue
        elif experts == count or not experts:
            yield _output(tensor.name, tensor.dtype, tensor.shape, Copy(tensor.name))
        else:
            fill = NEVER if tensor.name.endswith("router.bias") else 0.0
            shape = (count, *tensor.shape[1:])
            yield _output(tensor.name, tensor.dtype, shape, Pad(tensor.name, count, fill))


def _output(name: str, dtype: str, shape: tuple[int, ...], op: TensorOp) -> Output:
    return Output(name, dtype, shape, prod(shape) * DTYPE_BYTES[dtype], prod(shape), op)


# ---- the files around them -------------------------------------------------------------------


def _small(model: Model, kind: Kind, config: Mapping[str, object]) -> dict[str, bytes]:
    found = dict(carried(model.directory))
    found["config.json"] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    if "auto_map" in config:
        found |= classes(str(config["model_type"]))
    layers = padded_layers(model) if kind.padded else model.layers
    layers = cached(layers, (tensor.name for tensor in model.tensors))
    found[PER_LAYER] = per_layer_config(model.family, layers)
    found["README.md"] = _card(model, kind, config).encode()
    return {f"{CHECKPOINT}/{name}": data for name, data in sorted(found.items())}


def _card(model: Model, kind: Kind, config: Mapping[str, object]) -> str:
    """What this is, and what it is not for."""
    lines = [
        f"# {model.name}, a twin for reference ({kind.words})",
        "",
        f"Made by surgery of the checkpoint with content `{model.digest[:16]}`. It computes what",
        "that computes and takes more memory: use it to compare engines, and serve the other.",
    ]
    if kind.bf16:
        lines += [
            "",
            "Packed experts were unpacked to BF16, which holds each of their values exactly.",
        ]
    if kind.padded:
        lines += [
            "",
            f"Every layer was filled up to {_most(model)} experts with zeros, and a router bias of "
            f"{NEVER:g}",
            "keeps them from being chosen.",
        ]
        types = config.get("layer_types")
        even = ["sliding_attention", "full_attention"] * len(model.layers)
        if types != even[: len(model.layers)]:
            lines += [
                "",
                "Engines that give every second layer a window, whatever `layer_types` says, run "
                "it wrongly:",
                "vLLM 0.32 and TensorRT-LLM do so.",
            ]
    return "\n".join((*lines, ""))


def _manifest(
    model: Model,
    kind: Kind,
    outputs: tuple[Output, ...],
    written: tuple[WrittenTensor, ...],
    small: Mapping[str, bytes],
) -> bytes:
    """As `emit`'s: where every tensor comes from, the size and hash of every file."""
    tensors = {
        output.name: {
            "bytes": output.nbytes,
            "dtype": output.dtype,
            "from": operation(output.op),
            "sha256": on_disk.sha256,
            "shape": list(output.shape),
            "shard": on_disk.shard,
        }
        for output, on_disk in zip(outputs, written, strict=True)
    }
    laid = layout(outputs, SHARD)
    files: dict[str, object] = {
        path: {"bytes": len(data), "sha256": sha256(data).hexdigest()}
        for path, data in small.items()
    }
    files |= {f"{CHECKPOINT}/{shard.name}": {"bytes": shard.size} for shard in laid.shards}
    if laid.index is not None:
        index = next(file for file in laid.files if file.endswith(".json"))
        digest = sha256(laid.index).hexdigest()
        files[f"{CHECKPOINT}/{index}"] = {"bytes": len(laid.index), "sha256": digest}
    root: dict[str, object] = {
        "format": MANIFEST_FORMAT,
        "version": MANIFEST_VERSION,
        "twin": kind.words,
        "of": {"name": model.name, "sha256": model.digest},
        "tensors": tensors,
        "files": files,
    }
    return (json.dumps(root, indent=1, sort_keys=True) + "\n").encode()
