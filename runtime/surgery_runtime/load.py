# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Transformers ships no types for its model classes.
"""A compiled folder -> the model, through Transformers.

In: a folder with `runtime.json` and `checkpoint/`, as `surgery compile` writes it. Out: the model
in eval mode. The classes are this package's, so no code from the checkpoint is run. Refuses, as
`ValueError`: a checkpoint that lacks a tensor, has one of another shape, or whose layers are not
what `runtime.json` says. Not here: kernels and serving.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from surgery_runtime import schema
from surgery_runtime.classes import KINDS
from surgery_runtime.hf import class_at


def load(directory: str | Path, dtype: torch.dtype | str = "auto") -> nn.Module:
    """The model in `directory`, with parameters in `dtype` (`auto`: as stored).

    Packed experts are unpacked where the machine has no kernels for them. Raises `ValueError`
    (`schema.RuntimeFormatError` among them) and `OSError`.
    """
    directory = Path(directory)
    runtime = schema.read(directory)
    if runtime.checkpoint is None:
        raise ValueError(f"{directory} holds no checkpoint, only how to serve one")
    model, told = _class(runtime.model_type).from_pretrained(
        directory / runtime.checkpoint,
        dtype=dtype,
        local_files_only=True,
        # A stock model type would otherwise ask, and run the checkpoint's code if told yes.
        trust_remote_code=False,
        output_loading_info=True,
    )
    faults = sorted(map(str, told["missing_keys"])) + sorted(map(str, told["mismatched_keys"]))
    if faults:
        raise ValueError(f"{len(faults)} tensors are missing or misshapen: {', '.join(faults[:5])}")
    for index, (layer, said) in enumerate(zip(model.model.layers, runtime.layers, strict=True)):
        found = shape_of(layer)
        mine, told_of = found.attention, said.attention
        if isinstance(mine, schema.Attention) and isinstance(told_of, schema.Attention):
            # How keys and values are cached is no property of the modules.
            found = replace(found, attention=replace(mine, kv_cache=told_of.kv_cache))
        if found != said:
            raise ValueError(f"layer {index} is {found}, and {schema.FILE} says {said}")
    return model.eval()


def shape_of(layer: Any) -> schema.Layer:
    """What a decoder layer of any family is, read off its modules."""
    attention: Any = getattr(layer, "self_attn", None)
    mlp: Any = getattr(layer, "mlp", None)
    found: schema.Mlp | None = None
    if hasattr(mlp, "experts"):
        router: Any = mlp.router if hasattr(mlp, "router") else mlp.gate
        experts: Any = mlp.experts
        own = hasattr(experts, "intermediate_size")
        width = experts.intermediate_size if own else experts.intermediate_dim
        found = schema.Experts(router.num_experts, router.top_k, width)
    elif hasattr(mlp, "linear_mlp"):
        found = schema.Linear()
    elif mlp is not None:
        found = schema.Ffn(mlp.gate_proj.out_features)
    if attention is None:
        return schema.Layer(None, found)
    if hasattr(attention, "linear_attn"):
        return schema.Layer(schema.Linear(), found)
    size = attention.head_dim
    shape = schema.Attention(
        heads=attention.q_proj.out_features // size,
        kv_heads=attention.k_proj.out_features // size,
        head_dim=size,
        window=_window(layer, attention),
        sink_tokens=getattr(layer, "sinks", 0),
    )
    return schema.Layer(shape, found)


def _window(layer: Any, attention: Any) -> int | None:
    """Ours say it of the layer; stock ones of its attention, or of all layers in the config."""
    for owner, name in ((layer, "window"), (attention, "sliding_window")):
        if hasattr(owner, name):
            return getattr(owner, name)
    return getattr(attention.config, "sliding_window", None)


def _class(model_type: str) -> Any:
    kind = KINDS.get(model_type)
    return AutoModelForCausalLM if kind is None else class_at(kind.model)
