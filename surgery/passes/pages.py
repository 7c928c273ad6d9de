"""A chosen child -> do its layers share KV pages well (W0802)?

In: a spec, its space, the child's layers and candidates. Out: at most one finding, where a plan
changes windows and the padding between groups of layers (`paging.py`) is worth a word. Not here:
the arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from surgery import catalog, paging
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.ir import Attention, Candidate, Choice, Facet, Layer, Site, Space, Spec
from surgery.units import format_bytes, format_tokens, significant

WASTE = Fraction(5, 100)
"""Padding that is worth a word, as a part of the KV cache of one sequence."""


def findings(
    spec: Spec, space: Space, layers: Sequence[Layer], chosen: Sequence[Candidate]
) -> Iterator[Diagnostic]:
    """W0802, if the plan is to blame for enough waste."""
    choice = _culprit(spec, chosen)
    found, tokens = paging.kinds(layers), _longest(spec, space)
    held, wasted = paging.held_and_wasted(found, tokens)
    if choice is None or wasted < WASTE * held:
        return
    counts = " + ".join(str(kind.layers) for kind in found)
    size = paging.group_size([kind.layers for kind in found])
    rounded = ", ".join(
        f"{kind.layers} -> {kind.slots} layers of {_name(kind.attention)}"
        for kind in found
        if kind.wasted
    )
    takes = f"{format_bytes(held + wasted)} instead of {format_bytes(held)}"
    yield Diagnostic(
        catalog.W0802,
        f"{counts} attention layers share KV pages poorly",
        (Label(choice.span, f"this plan makes {len(found)} kinds of KV cache", primary=True),),
        notes=(
            f"vLLM pages KV in groups of {size} layers: {rounded}",
            f"a sequence of {format_tokens(tokens)} tok takes {takes}, {_percent(held, wasted)} "
            "more",
        ),
        helps=tuple(_ways_out(space, found, chosen, tokens)),
    )


def _culprit(spec: Spec, chosen: Sequence[Candidate]) -> Choice | Facet | None:
    """The first choice that a changed attention block comes from."""
    edited = [c.alternative for c in chosen if c.site is Site.ATTENTION and c.edit != "keep"]
    stored = [c.facet for c in chosen if c.site is Site.ATTENTION and c.facet is not None]
    for choice in (*spec.choices, *spec.facets):
        if any(one is each for one in (*edited, *stored) for each in choice.alternatives):
            return choice
    return None


def _longest(spec: Spec, space: Space) -> int:
    """The longest sequence that the spec speaks of, or that the parent can see."""
    lengths = [scenario.longest for scenario in spec.scenarios]
    lengths += [emit.context for emit in spec.emits if emit.context is not None]
    return max(lengths, default=space.model.context)


def _name(attention: Attention) -> str:
    full = attention.window is None
    name = "full attention" if full else f"window {format_tokens(attention.held or 0)} tok"
    return name if attention.kv_dtype == "bf16" else f"{name} in FP8"


def _percent(held: int, wasted: int) -> str:
    return f"{significant(100 * Fraction(wasted, held), 3)}%"


# ---- ways out --------------------------------------------------------------------------------


def _ways_out(
    space: Space, found: Sequence[paging.Kind], chosen: Sequence[Candidate], tokens: int
) -> Iterator[Help]:
    """The nearest number of layers with full attention that wastes little."""
    blocks = {kind.attention.held: kind.attention for kind in found}
    counts = {kind.attention.held: kind.layers for kind in found}
    if None not in counts or len(counts) < len(found):
        return
    moves = _moves(space, chosen)
    for step in range(1, max(moves.values(), default=0) + 1):
        for (source, target), most in sorted(moves.items(), key=str):
            if step > most or source not in blocks or target not in blocks:
                continue
            trial = {**counts, source: counts[source] - step, target: counts[target] + step}
            made = paging.padded([(blocks[window], count) for window, count in trial.items()])
            held, wasted = paging.held_and_wasted(made, tokens)
            if wasted < WASTE * held:
                rest = (
                    f"which wastes {_percent(held, wasted)}" if wasted else "which wastes nothing"
                )
                yield _exactly(trial[None], made, rest)
                return


def _moves(
    space: Space, chosen: Sequence[Candidate]
) -> Mapping[tuple[int | None, int | None], int]:
    """How many layers could go from full attention to each window, or back."""
    options = {(option.layer, option.site): option.candidates for option in space.options}
    moves: Counter[tuple[int | None, int | None]] = Counter()
    for candidate in chosen:
        if candidate.site is not Site.ATTENTION or not isinstance(candidate.block, Attention):
            continue
        here = candidate.block.held
        offered = (c.block for c in options[candidate.layer, candidate.site])
        others = {block.held for block in offered if isinstance(block, Attention)} - {here}
        moves.update((here, there) for there in others if None in (here, there))
    return moves


def _exactly(full: int, made: Sequence[paging.Kind], rest: str) -> Help:
    sizes = " + ".join(str(kind.layers) for kind in made)
    unit = "layer" if full == 1 else "layers"
    text = f"require @pages count(layers where attention is full) == {full} {unit}"
    return Help(f"`{text}` makes it {sizes}, {rest}")
