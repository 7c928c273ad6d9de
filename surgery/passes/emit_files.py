"""The files around the weights: config, carried files, manifest, runtime.json.

In: the parent, the chosen candidates and their outputs, the plan. Out: bytes by file name, the
same for the same input: no dates, no hosts, no absolute paths. Refuses, as `Stop` E0004, a
carried file that is a link out of the parent's directory, or too large, and an unchanged config
that names code which is not ours and so does not travel. Not here: weights
(`tensors/write.py`) and the disk (`passes/emit_place.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from surgery import ir, lockfile
from surgery.arch.configs import CLASSES
from surgery.arch.per_layer import FILE as PER_LAYER
from surgery.arch.per_layer import per_layer_config
from surgery.diagnostics import Stop
from surgery.ops import (
    Blend,
    Constant,
    Copy,
    Joint,
    MeanHeads,
    Merge,
    Pad,
    Product,
    Take,
    TakeEach,
    TensorOp,
    Unpack,
)
from surgery.passes.emit_child import Child
from surgery.passes.emit_place import MANIFEST_FORMAT
from surgery.passes.model_card import model_card
from surgery.tensors.headers import inside
from surgery.tensors.write import WrittenTensor
from surgery.untrusted import malformed, read_capped

CARRIED = (
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""What a child has in common with its parent, copied as bytes: nothing here is ever run."""
MAX_CARRIED = 256 * 2**20
MANIFEST_VERSION = 1
_EMBEDDING = "model.embed_tokens.weight"
"""In every family, and never edited: `runtime.json` states its dtype as that of the weights."""


# ---- beside the weights ----------------------------------------------------------------------


def checkpoint_files(child: Child) -> Mapping[str, bytes]:
    """Every file of the checkpoint but the weights, by name."""
    model, config = child.model, child.config
    found = dict(carried(model.directory))
    if child.config == model.config:
        found["config.json"] = read_capped(inside(model.directory, "config.json"), MAX_CARRIED)
    else:
        found["config.json"] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    ours, named = CLASSES.get(child.model_type), config.get("auto_map")
    if named is not None:
        if named != ours:
            raise _foreign_code(child)
        found |= classes(child.model_type)
    found[PER_LAYER] = per_layer_config(model.family, child.layers)
    found["README.md"] = model_card(child).encode()
    return dict(sorted(found.items()))


def _foreign_code(child: Child) -> Stop:
    """Only an unchanged child has its parent's `auto_map`; a changed one is told in our words."""
    message = f"the config of `{child.model.name}` names code (`auto_map`) that a copy would lack"
    help = f"remove `auto_map`: `{child.model_type}` is loaded without it"
    return malformed(str(child.model.directory / "config.json"), message, help=help)


def carried(directory: Path) -> Mapping[str, bytes]:
    """The files of a checkpoint that every model made of it has in common with it."""
    return {name: data for name in CARRIED if (data := _carried(directory, name))}


def _carried(directory: Path, name: str) -> bytes | None:
    if not os.path.lexists(directory / name):
        return None
    return read_capped(inside(directory, name), MAX_CARRIED)


def classes(model_type: str) -> dict[str, bytes]:
    """Frozen copies of the modules that `auto_map` names. Imports nothing heavy."""
    from surgery_runtime.classes import KINDS

    package = files("surgery_runtime") / "hf"
    kind = KINDS.get(model_type)
    return {name: (package / name).read_bytes() for name in kind.files} if kind else {}


# ---- the manifest ----------------------------------------------------------------------------


def manifest(
    child: Child,
    written: tuple[WrittenTensor, ...],
    listed: Mapping[str, tuple[int, str]],
) -> bytes:
    """`provenance.json`: where every tensor comes from, and the size and hash of every file.

    `listed` maps paths below the output folder to bytes and SHA-256 (hex; "" for weights, whose
    tensors are hashed one by one).
    """
    on_disk = {tensor.name: tensor for tensor in written}
    tensors = {
        output.name: {
            "bytes": output.nbytes,
            "dtype": output.dtype,
            "from": operation(output.op),
            "sha256": on_disk[output.name].sha256,
            "shape": list(output.shape),
            "shard": on_disk[output.name].shard,
        }
        for output in child.outputs
        if output.name in on_disk
    }
    model, plan = child.model, child.plan
    root: dict[str, object] = {
        "format": MANIFEST_FORMAT,
        "version": MANIFEST_VERSION,
        "decision": lockfile.decision(plan),
        "parent": {"source": model.source, "sha256": model.digest},
        "toolchain": plan.toolchain,
        "tensors": tensors,
        "files": {
            path: {"bytes": size} | ({"sha256": digest} if digest else {})
            for path, (size, digest) in listed.items()
        },
    }
    return (json.dumps(root, indent=1, sort_keys=True) + "\n").encode()


def operation(op: TensorOp) -> dict[str, object]:
    """One operation as JSON; indices are runs in the order taken, `0-5,9`."""
    match op:
        case Copy(source=source):
            return {"op": "copy", "tensor": source}
        case Take(source=source, axis=axis, indices=indices, unit=unit):
            taken = lockfile.ranges(indices)
            return {"op": "take", "tensor": source, "axis": axis, "indices": taken, "unit": unit}
        case TakeEach(source=source, axis=axis, indices=indices, unit=unit):
            taken = lockfile.ranges(indices)
            told = {"op": "take_each", "tensor": source, "axis": axis}
            return {**told, "indices": taken, "unit": unit}
        case Merge(source=source, groups=groups):
            return {"op": "merge", "tensor": source, "groups": ir.Merging(groups).text}
        case Blend() | Product():
            return _joint(op)
        case MeanHeads(source=source, heads=heads, head_dim=size):
            return {"op": "mean_heads", "tensor": source, "heads": heads, "head_dim": size}
        case Constant(value=value, how=how):
            return {"op": "constant", "value": value, "how": how}
        case Unpack(source=source, scales=scales, count=count):
            return {"op": "unpack", "tensor": source, "scales": scales, "experts": count}
        case Pad(source=source, count=count, fill=fill):
            return {"op": "pad", "tensor": source, "to": count, "fill": fill}


def _joint(op: Joint) -> dict[str, object]:
    match op:
        case Blend(parts=parts):
            names, weights = zip(*parts, strict=True)
            return {"op": "blend", "tensors": list(names), "weights": list(weights)}
        case Product(left=left, right=right, head_dim=size):
            return {"op": "product", "left": left, "right": right, "head_dim": size}


# ---- runtime.json ----------------------------------------------------------------------------


def runtime_json(child: Child, emit: ir.Emit | None, checkpoint: str | None) -> bytes:
    """`runtime.json`: geometry, dtypes and context; `checkpoint` is the folder of the weights."""
    from surgery_runtime import schema

    model = child.model
    runtime = schema.Runtime(
        checkpoint=checkpoint,
        model_type=child.model_type,
        decision=lockfile.decision(child.plan),
        backend=emit.backend if emit else None,
        context=emit.context if emit and emit.context else model.context,
        hidden=model.hidden,
        vocab=model.vocab,
        tied=model.tied,
        dtypes=schema.Dtypes(**_dtypes(model)),
        layers=tuple(_shape(layer) for layer in child.layers),
    )
    return runtime.to_json().encode()


def _dtypes(model: ir.Model) -> dict[str, Any]:
    embedding = next(t for t in model.tensors if t.name == _EMBEDDING)
    experts = {
        t.dtype for t in model.tensors if t.site is ir.Site.EXPERTS and ".experts." in t.name
    }
    packed = "MXFP4" if "U8" in experts else next(iter(sorted(experts)), None)
    return {"weights": embedding.dtype, "experts": packed, "cache": "BF16"}


def _shape(layer: ir.Layer) -> Any:
    from surgery_runtime import schema

    match layer.mlp:
        case None:
            mlp = None
        case ir.Linear():
            mlp = schema.Linear()
        case ir.Ffn(width=width):
            mlp = schema.Ffn(width)
        case ir.Experts(count=count, active=active, width=width):
            mlp = schema.Experts(count, active, width)
    a = layer.attends
    if a is None:
        return schema.Layer(None if layer.attention is None else schema.Linear(), mlp)
    cache = "F8_E4M3" if a.kv_dtype == "fp8_e4m3" else "BF16"
    attention = schema.Attention(a.heads, a.kv_heads, a.head_dim, a.window, cache, a.sinks)
    return schema.Layer(attention, mlp)
