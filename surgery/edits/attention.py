"""Surgery on attention: a shorter window, fewer KV heads, or none at all.

In: an `Attention` block and the argument of the edit. Out: the edited block, its plan text and
its tensors. Refuses a window that does not shorten what the layer sees, or that has sink tokens
where the parent has learned sinks (E0408), and KV heads that cannot be pooled evenly (E0409).

`window n`: the last `n` tokens including the current one, as Transformers and gpt-oss count; no
tensor changes. `sink_window n`: these and the first four of the sequence (arXiv 2309.17453), for
parents without learned sinks, whose heads look there when they look for nothing. `kv_heads n`: K
and V projections mean-pooled into `n` heads (paper B, appendix A). `noop`: the block and the norm
that feeds it disappear.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from surgery import catalog
from surgery.edits.edit import Edit, Refusal, copied, never, pooled, remove
from surgery.ir import Attention, Block, Model, Site, TensorSpec
from surgery.ops import Output
from surgery.units import format_tokens


def _attention(block: Block) -> Attention:
    if not isinstance(block, Attention):
        raise TypeError(f"an attention edit on {block!r}")
    return block


# ---- window ----------------------------------------------------------------------------------


def _refuse_window(model: Model, block: Block, value: int) -> Refusal | None:
    current = _attention(block).window
    asked, context = format_tokens(value), format_tokens(model.context)
    if value >= model.context:
        relation = "is longer than" if value > model.context else "is no shorter than"
        return Refusal(
            catalog.E0408,
            f"a window of {asked} tok {relation} the model's context",
            f"the model sees {context} tok at most",
            why=f"its context is {context} tok",
            help=f"use a window below {context} tok; `keep` already means all of them",
            legal=_shorter(model.context),
        )
    if current is not None and value >= current:
        return Refusal(
            catalog.E0408,
            f"a window of {asked} tok is not shorter than the window that the layer has",
            f"the window is {format_tokens(current)} tok already",
            help=(
                f"use a window below {format_tokens(current)} tok, or choose among the other "
                "layers only: `layers where attention is full`"
            ),
            legal=_shorter(current),
        )
    return None


def _shorter(tokens: int) -> tuple[int, ...]:
    """Powers of two below a number of tokens, the longest first."""
    return tuple(2**n for n in reversed(range((tokens - 1).bit_length())))


SINK_TOKENS = 4
"""More recover next to nothing, fewer less (arXiv 2309.17453, table 2)."""


WINDOWS: Mapping[str, int] = {"window": 0, "sink_window": SINK_TOKENS}
"""The edits that leave a window, and how many first tokens it has besides."""


def _refuse_sink_window(model: Model, block: Block, value: int) -> Refusal | None:
    if any(tensor.name.endswith("self_attn.sinks") for tensor in model.tensors):
        return Refusal(
            catalog.E0408,
            f"`sink_window {format_tokens(value)} tok` is for models without sinks of their own",
            "needs no tokens for that",
            why="its heads have learned sinks",
            help=f"use `window {format_tokens(value)} tok`",
        )
    return _refuse_window(model, block, value + SINK_TOKENS)


def _become_window(block: Block, value: int) -> Attention:
    return replace(_attention(block), window=value, sinks=0)


def _become_sink_window(block: Block, value: int) -> Attention:
    return replace(_attention(block), window=value, sinks=SINK_TOKENS)


WINDOW = Edit(
    name="window",
    site=Site.ATTENTION,
    valued=True,
    selects=None,
    inits=(),
    refuse=_refuse_window,
    become=_become_window,
    text=lambda value: f"window({format_tokens(value)})",
    cut=lambda tensor, _block, _value, _kept: copied(tensor),
)


SINK_WINDOW = Edit(
    name="sink_window",
    site=Site.ATTENTION,
    valued=True,
    selects=None,
    inits=(),
    refuse=_refuse_sink_window,
    become=_become_sink_window,
    text=lambda value: f"sink_window({format_tokens(value)})",
    cut=lambda tensor, _block, _value, _kept: copied(tensor),
)


# ---- kv_heads --------------------------------------------------------------------------------


def legal_kv_heads(block: Attention) -> tuple[int, ...]:
    """KV head counts below the current one that mean pooling can reach, ascending.

    Each new head is the mean of equally many old ones, so the count divides the parent's; and
    every group of query heads shares one KV head, so it divides the query heads as well.
    """
    return tuple(
        n for n in range(1, block.kv_heads) if block.kv_heads % n == 0 and block.heads % n == 0
    )


def _refuse_kv_heads(_model: Model, block: Block, value: int) -> Refusal | None:
    attention = _attention(block)
    legal = legal_kv_heads(attention)
    if value == attention.kv_heads or value in legal:
        return None
    has = f"{attention.heads} query heads share {attention.kv_heads} KV heads"
    if value > attention.kv_heads:
        message = f"{value} KV heads are more than the layer has"
    elif attention.heads % value:
        message = f"{value} KV heads do not divide {attention.heads} query heads"
    else:
        message = f"{value} KV heads cannot be pooled from {attention.kv_heads}"
    *others, last = map(str, legal or (1,))
    listed = f"{', '.join(others)} or {last}" if others else last
    return Refusal(
        catalog.E0409,
        message,
        f"{value} of {attention.kv_heads}",
        why=has,
        help=f"a legal number is {listed}" if legal else "a single KV head cannot become fewer",
        legal=tuple(sorted(legal, key=lambda n: (abs(n - value), n))),
    )


def _become_kv_heads(block: Block, value: int) -> Attention:
    return replace(_attention(block), kv_heads=value)


def _cut_kv_heads(tensor: TensorSpec, block: Block, value: int, _kept: tuple[int, ...]) -> Output:
    return pooled(tensor, _attention(block), value)


KV_HEADS = Edit(
    name="kv_heads",
    site=Site.ATTENTION,
    valued=True,
    selects=None,
    inits=("mean",),
    refuse=_refuse_kv_heads,
    become=_become_kv_heads,
    text=lambda value: f"kv_heads({value})",
    cut=_cut_kv_heads,
)


# ---- noop ------------------------------------------------------------------------------------

NOOP = Edit(
    name="noop",
    site=Site.ATTENTION,
    valued=False,
    selects=None,
    inits=(),
    refuse=never,
    become=remove,
    text=lambda _value: "noop",
    cut=None,
)
