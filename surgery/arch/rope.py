"""Another YaRN factor for a whole model: what `apply rope { factor = ... }` does to its config.

In: a `Model`, the factor. Out: the model with the config of one whose rotary embedding is stretched
by it, told in the keys of Transformers 5 and in those of before; or why not. Refused: rotary
embeddings of another kind than YaRN, and none (plain) alone. Not here: rotary tables
(Transformers makes them of the config).

YaRN (arXiv 2309.00071) leaves frequencies that turn often within the original context as they are
and divides slow ones by the factor; attention is sharpened by 0.1 ln(factor) + 1. A plain rotary
embedding becomes YaRN whose original context is the model's. What the config says of the longest
context stays: how far the child is good is for a measurement to say. The rule of paper A for its
factor is not public; the factor here is the user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from msgspec.structs import replace

from surgery.arch.configs import rope
from surgery.ir import Model

PLAIN, YARN = "default", "yarn"


def kind(model: Model) -> str:
    """What the config calls its rotary embedding; `default` is the plain one."""
    return str(_parameters(model)["rope_type"])


def factor(model: Model) -> float:
    """By how much the model's positions are stretched; 1 where they are not."""
    found = _parameters(model).get("factor", 1.0)
    return float(found) if isinstance(found, int | float) else 1.0


def stretched(model: Model, wanted: float) -> Model:
    """The model whose config has YaRN with this factor. Raises `ValueError` for other kinds."""
    parameters = _parameters(model)
    if parameters["rope_type"] not in (PLAIN, YARN):
        raise ValueError(f"rotary embeddings of kind {parameters['rope_type']} have no YaRN factor")
    told = {**parameters, "rope_type": YARN, "factor": wanted}
    told.setdefault("original_max_position_embeddings", model.context)
    keys = rope({**model.config, "rope_parameters": told}, model.family)
    return replace(model, config={**model.config, **keys})


def _parameters(model: Model) -> Mapping[str, object]:
    return cast("Mapping[str, object]", rope(model.config, model.family)["rope_parameters"])
