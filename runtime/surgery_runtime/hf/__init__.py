# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Transformers ships no types for its model classes.
"""Models whose layers differ, for measuring and for loading: one source for both.

In: a `config.json` as a dict. Out: `build`, the model with empty weights. The files beside this
one are also what a checkpoint carries (`surgery_runtime.classes`). Refused: families that are
not here.

The model offers `begin(input_ids) -> (hidden, state)`, `run(hidden, state, start, stop)`,
`logits(hidden)` and `make_layer(index, layer)` (`layerwise.py`), besides all that a Transformers
model does; its forward pass is `logits(run(hidden, state, 0, n))`. To swap a layer, put a module
from `make_layer` into `model.model.layers[index]` and load its parameters: windows that the
config never mentioned get their masks when `run` meets them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch

from surgery_runtime.classes import Kind, kind_of

_PRIVATE = (
    "architectures",
    "auto_map",
    "dtype",
    "model_type",
    "quantization_config",
    "torch_dtype",
    "use_cache",
)


def build(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """The model of a `config.json`, in eval mode, every parameter NaN until it is loaded.

    Takes the model types of `surgery_runtime.classes`, and the stock ones that they generalise.
    Parameters are in `dtype`, also where the checkpoint packs them, and have the names that
    Transformers gives them. Experts of a layer are one parameter each: `mlp.experts.gate_up_proj`
    and `mlp.experts.down_proj`; in gpt-oss [experts, hidden, 2 * width] (gate and up alternate) and
    [experts, width, hidden], else [experts, 2 * width, hidden] (gate first) and [experts, hidden,
    width]. Attention is eager. Raises `ValueError` for other model types.
    """
    kind, settings = _settings(config)
    with torch.device("meta"):
        model = class_at(kind.model)(settings(dtype=dtype, attn_implementation="eager"))
    _empty(model, dtype)
    return model


def rotary(config: dict[str, Any], like: Any) -> Any:
    """The rotary embedding that a model as `like`, from `build`, has by this `config.json`."""
    return type(like.model.rotary_emb)(config=_settings(config)[1]())


def _settings(config: dict[str, Any]) -> tuple[Kind, Callable[..., Any]]:
    """Which model a `config.json` is for, and what makes the object that it takes."""
    kind = kind_of(config.get("model_type"))
    if kind is None:
        raise ValueError(f"no model of type {config.get('model_type')!r} here")
    keys = {key: value for key, value in config.items() if key not in _PRIVATE}
    return kind, partial(class_at(kind.config), **keys)


def class_at(place: str) -> Any:
    """The class FILE.CLASS of this folder."""
    file, _, name = place.partition(".")
    return getattr(import_module(f"surgery_runtime.hf.{file}"), name)


def _empty(model: Any, dtype: torch.dtype) -> None:
    """Give a model on the meta device parameters of `dtype`: NaN, frozen, tied where it ties."""
    model.to(dtype).to_empty(device="cpu")
    # Buffers that are computed, not loaded, were lost with the meta device.
    model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config)
    model.tie_weights()
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.fill_(torch.nan)
