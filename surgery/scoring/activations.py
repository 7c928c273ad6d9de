"""Statistics of what flows through FFN channels and experts, in one pass and constant memory.

In: a loaded parent, tokens, the layers to watch. Out: per layer, one score per FFN channel or
expert, and how many tokens it saw. Sums are float64, so that how samples are batched does not
matter. Not here: who survives (`passes/rank.py`).

`channel_contribution`, with X the input of the down projection, is mean |X_i| * ||W_down[:, i]||:
what channel i adds to the output (paper B, appendix A); for channels of experts, see
`expert_channels.py`. The criteria of experts are in `routing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from surgery.arch import family_named, renormalised
from surgery.ir import Model, Site
from surgery.scoring import expert_channels, routing, similarity
from surgery.scoring.expert_channels import Channels
from surgery.scoring.model import Parent
from surgery.scoring.routing import Routing, Style
from surgery.scoring.similarity import Similarity

Watched = tuple[int, Site, str]
"""A layer, the site of it whose statistics are wanted, and of what.

That is `experts`, their `channels`, or `groups` of them.
"""


Statistics: TypeAlias = Channels | Routing | Similarity


def collect(
    parent: Parent, batches: Iterable[Tensor], watched: Iterable[Watched], total: int
) -> dict[Watched, Statistics]:
    """Run the parent over int64 batches [batch, length] and add up what the watched blocks do.

    `total` is the number of tokens in all batches.
    """
    found: dict[Watched, Statistics] = {}
    hooks = [_watch(parent, each, total, found) for each in watched]
    try:
        with torch.inference_mode():
            for tokens in batches:
                hidden, state = parent.module.begin(tokens)
                parent.module.run(hidden, state, 0, len(parent.model.layers))
    finally:
        for remove in hooks:
            remove()
    return found


def _watch(
    parent: Parent, key: Watched, total: int, found: dict[Watched, Statistics]
) -> Callable[[], None]:
    layer, site, things = key
    mlp = cast("nn.Module", parent.module.model.layers[layer].mlp)

    def add(seen: Statistics) -> None:
        before = found.get(key)
        # Both are of one kind: a site is either channels or experts.
        found[key] = seen if before is None else cast("Routing", before) + cast("Routing", seen)

    if site is Site.FFN:
        return _watch_channels(cast("nn.Linear", mlp.down_proj), add)
    if things == "groups":
        return similarity.watch(mlp, _style(parent.model), add)
    if things == "channels":
        return expert_channels.watch(mlp, _style(parent.model), add)
    return routing.watch(mlp, _style(parent.model), total, add)


def _style(model: Model) -> Style:
    """How the mixtures of a model route."""
    family = family_named(model.family)
    if family.router is None:
        raise ValueError(f"the family {family.name} has no router")
    return Style(family.router.module, renormalised(family, model.config))


def _watch_channels(down: nn.Linear, add: Callable[[Channels], None]) -> Callable[[], None]:
    norms = down.weight.double().square().sum(0).sqrt()

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].flatten(0, -2)
        total = values.abs().sum(0, dtype=torch.float64)
        add(Channels(total * norms, torch.full_like(total, len(values))))

    return down.register_forward_pre_hook(hook).remove
