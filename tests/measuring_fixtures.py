"""Spaces over the tiny checkpoints, and references that share no code with what they check.

A reference child is the stock Transformers model with weights changed in a way that is
equivalent to the edit: a dropped channel has no way out, a dropped expert is never routed to, a
missing block writes nothing, pooled heads are equal heads, a window is a mask.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from msgspec import Struct, field
from msgspec.structs import replace
from space_fixtures import TEXT, alternative, choose, layers, span, spec

from surgery.diagnostics import Sink
from surgery.expr import ScoreTotal
from surgery.ir import (
    Alternative,
    Attention,
    Candidate,
    Dataset,
    Measured,
    Model,
    Objective,
    Ranking,
    Score,
    Site,
    Space,
    Spec,
)
from surgery.library import Library
from surgery.passes import expand, rank, resolve, score
from surgery.scoring import data, swap
from surgery.scoring.arrays import from_numpy
from surgery.scoring.model import Parent
from surgery.source import Source
from surgery.sources import Fetched


class Log(Struct):
    """A progress callback that remembers."""

    events: list[tuple[str, int, int, str]] = field(default_factory=list)

    def __call__(self, name: str, done: int, total: int, detail: str) -> None:
        self.events.append((name, done, total, detail))

    def of(self, name: str) -> list[tuple[int, int]]:
        return [(done, total) for event, done, total, _ in self.events if event == name]


class Bench(Struct, frozen=True):
    """A parent, a spec beside it, and the unranked space of its choices."""

    folder: Path
    model: Model
    spec: Spec
    space: Space

    def rank(self, library: Library, log: Log | None = None) -> Space:
        sink = Sink()
        ranked = rank.run(self.spec, self.space, library, sink, log or Log())
        assert not sink.found
        assert ranked is not None
        return ranked

    def score(self, library: Library, log: Log | None = None) -> Measured:
        sink = Sink()
        ranked = self.rank(library, log)
        measured = score.run(self.spec, ranked, library, sink, log or Log())
        assert not sink.failed, sink.found
        assert measured is not None
        return measured


def dataset(**changes: Any) -> Dataset:
    made = Dataset(span(10), "text", "local", "text.jsonl", take=4, length=48, seed=0)
    return replace(made, **changes)


def ranked_by(edit: str, value: int, criterion: str, line: int) -> Alternative:
    by = Ranking(span(line), criterion, "text")
    return replace(alternative(edit, value, line=line), by=by)


LLAMA_CHOICES = (
    choose(
        Site.ATTENTION,
        layers(),
        alternative("keep"),
        alternative("kv_heads", 1, line=21),
        alternative("window", 8, line=22),
        alternative("noop", line=23),
    ),
    choose(
        Site.FFN,
        layers(),
        alternative("keep"),
        ranked_by("width", 64, "channel_contribution", 24),
        alternative("noop", line=25),
    ),
)
GPT_OSS_CHOICES = (
    choose(
        Site.ATTENTION,
        layers(),
        alternative("keep"),
        alternative("window", 8, line=22),
        alternative("kv_heads", 1, line=21),
        alternative("noop", line=23),
    ),
    choose(
        Site.EXPERTS,
        layers(),
        alternative("keep"),
        ranked_by("retain", 6, "router_contribution", 26),
        ranked_by("retain", 3, "router_contribution", 27),
    ),
)
QWEN3_MOE_CHOICES = (
    GPT_OSS_CHOICES[0],
    replace(GPT_OSS_CHOICES[1], selector=layers((0, 0), (2, 3))),
    choose(
        Site.FFN,
        layers((1, 1)),
        alternative("keep"),
        ranked_by("width", 64, "channel_contribution", 24),
        alternative("noop", line=25),
    ),
)
CHOICES = {
    "llama": LLAMA_CHOICES,
    "gpt_oss": GPT_OSS_CHOICES,
    "mixtral": GPT_OSS_CHOICES,
    "qwen3_moe": QWEN3_MOE_CHOICES,
}


def bench(
    parents: Path, name: str, tmp_path: Path, text: Dataset | None = None, **changes: Any
) -> Bench:
    """The tiny parent `name` with every kind of edit on every layer, scored on `text`.

    The checkpoint is a copy in `tmp_path` that a test may spoil before it resolves it again.
    """
    folder = tmp_path / "bench"
    if not folder.exists():
        shutil.copytree(parents / name, folder / name)
        shutil.copy(parents / "text.jsonl", folder)
    model = resolve.read_model(Fetched(folder / name, name), tmp_path / "cache")
    made = replace(
        spec(*CHOICES[name]),
        source=Source(str(folder / "test.surg"), TEXT.text),
        datasets=(text or dataset(),),
        scores=(Score(span(11), "damage", "kl", "text"),),
        objective=Objective(span(12), "minimize", ScoreTotal(span(12), "damage")),
    )
    made = replace(made, **changes)
    sink = Sink()
    space = expand.run(made, model, sink)
    assert space is not None, sink.found
    return Bench(folder, model, made, space)


def only(space: Space, layer: int, site: Site, text: str) -> Candidate:
    """The one candidate of a site that a plan calls `text`."""
    (found,) = [c for c in space.candidates if (c.layer, c.site, c.text) == (layer, site, text)]
    return found


def samples(bench: Bench, chosen: Dataset | None = None) -> data.Samples:
    """What a dataset of the spec, or another one, is measured on."""
    wanted = chosen or bench.spec.datasets[0]
    encode, end = data.load_tokenizer(bench.model), data.end_of_text(bench.model)
    return data.draw(wanted, data.read_text(wanted, bench.folder), encode, end)


def tokens(bench: Bench, chosen: Dataset | None = None) -> torch.Tensor:
    """The same as int64 [samples, length]."""
    return from_numpy(samples(bench, chosen).tokens)


def sweep(
    parent: Parent, drawn: data.Samples, candidates: list[Candidate], **options: Any
) -> list[tuple[str, torch.Tensor]]:
    """Candidates measured over whole samples, by address, without a library."""
    found = swap.sweep(parent, drawn, drawn.length, candidates, **options)
    return [(candidate.address, values) for candidate, values in found]


def load(bench: Bench) -> dict[str, torch.Tensor]:
    """The tensors of the bench's checkpoint."""
    reader = cast("Any", safetensors.torch)
    return reader.load_file(bench.model.directory / "model.safetensors")


def save(bench: Bench, tensors: dict[str, torch.Tensor]) -> None:
    """Replace the bench's checkpoint."""
    writer = cast("Any", safetensors.torch)
    writer.save_file(tensors, bench.model.directory / "model.safetensors", {"format": "pt"})


# ---- References ------------------------------------------------------------------------------


def stock(bench: Bench) -> Any:
    """The parent as Transformers alone loads it, float32, eager attention."""
    from transformers import AutoModelForCausalLM

    return (
        cast("Any", AutoModelForCausalLM)
        .from_pretrained(bench.model.directory, dtype=torch.float32, attn_implementation="eager")
        .eval()
    )


def spoil(model: Any, candidate: Candidate) -> None:
    """Change the stock model so that it computes what the candidate should."""
    layer = model.model.layers[candidate.layer]
    changes: dict[tuple[Site, str], Callable[[Any, Candidate], None]] = {
        (Site.ATTENTION, "noop"): _silence_attention,
        (Site.ATTENTION, "kv_heads"): _equal_heads,
        (Site.ATTENTION, "window"): _mask_window,
        (Site.FFN, "noop"): _silence_ffn,
        (Site.FFN, "width"): _block_channels,
        (Site.EXPERTS, "retain"): _never_route,
    }
    with torch.no_grad():
        changes[candidate.site, candidate.edit](layer, candidate)


def _silence_attention(layer: Any, _candidate: Candidate) -> None:
    for parameter in layer.self_attn.o_proj.parameters():
        parameter.zero_()


def _silence_ffn(layer: Any, _candidate: Candidate) -> None:
    layer.mlp.down_proj.weight.zero_()


def _equal_heads(layer: Any, candidate: Candidate) -> None:
    assert candidate.text == "kv_heads(1)"
    head_dim = layer.self_attn.head_dim
    for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj):
        for parameter in projection.parameters():
            heads = parameter.view(-1, head_dim, *parameter.shape[1:])
            # Emitted in BF16, so rounded to it.
            heads.copy_(heads.mean(0, keepdim=True).bfloat16().float().expand_as(heads))


def _mask_window(layer: Any, candidate: Candidate) -> None:
    assert isinstance(candidate.block, Attention)
    window = candidate.block.window
    assert window is not None

    def hook(_module: Any, inputs: Any, kwargs: dict[str, Any]) -> Any:
        length = kwargs["hidden_states"].shape[1]
        ago = torch.arange(length).view(-1, 1) - torch.arange(length).view(1, -1)
        hidden = (ago < 0) | (ago >= window)
        mask = torch.zeros(1, 1, length, length).masked_fill(hidden, float("-inf"))
        return inputs, kwargs | {"attention_mask": mask}

    layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True)


def _block_channels(layer: Any, candidate: Candidate) -> None:
    assert candidate.kept is not None
    weight = layer.mlp.down_proj.weight
    dropped = sorted(set(range(weight.shape[1])) - set(candidate.kept))
    weight[:, dropped] = 0


def _never_route(layer: Any, candidate: Candidate) -> None:
    assert candidate.kept is not None
    mlp = layer.mlp
    if hasattr(mlp, "router"):
        bias = mlp.router.bias
        bias[sorted(set(range(len(bias))) - set(candidate.kept))] = -1e30
    else:
        forbid(mlp.gate, set(range(len(mlp.gate.weight))) - set(candidate.kept))


def forbid(gate: Any, experts: Iterable[int]) -> None:
    """Put the logits of some experts of a router without a bias at minus infinity."""
    gone, renormalised = sorted(experts), getattr(gate, "norm_topk_prob", True)

    def forward(hidden: torch.Tensor) -> Any:
        logits = hidden.reshape(-1, gate.weight.shape[1]) @ gate.weight.T
        logits[:, gone] = -torch.inf
        weights, chosen = logits.softmax(-1).topk(gate.top_k, dim=-1)
        if renormalised:
            weights = weights / weights.sum(-1, keepdim=True)
        return logits, weights, chosen

    gate.forward = forward


def reference_kl(parent: Any, child: Any, tokens: torch.Tensor, tail: int) -> torch.Tensor:
    """Mean KL of each sample from full logits of two whole models, in float64."""
    with torch.no_grad():
        p = torch.log_softmax(parent(tokens).logits[:, -tail:].double(), -1)
        q = torch.log_softmax(child(tokens).logits[:, -tail:].double(), -1)
    return (p.exp() * (p - q)).sum(-1).mean(-1)
