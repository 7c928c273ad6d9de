"""Spec x Model -> Space: every legal alternative of every site of every layer.

In: a checked spec and the parent. Out: a `Space` in canonical order (layer, site; `keep` first,
then edits in registry order by falling value), or `None` with errors in the sink. Selectors and
`when` are evaluated on the parent. Sites that no `choose` selects have their parent block alone.

Refuses: what the layer does not have (E0403), two choices for one site of a layer (E0404), illegal
arguments (E0405 to E0409, by `edits/`), layers left without any alternative (E0602), more
candidates than can be searched (E0414), alternatives that differ but become the same text (E0415),
spaces without a child that has room on its machine (E0506, `fit.py`).
Findings about many layers are one finding with layer ranges. Not here: rankings, time, rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from surgery import catalog, edits
from surgery.diagnostics import Sink, Stop
from surgery.edits import Refusal
from surgery.evaluate import Context, holds, layers_of, parent_context
from surgery.ir import (
    Alternative,
    Block,
    Candidate,
    Choice,
    Model,
    Site,
    SiteOptions,
    Space,
    Spec,
    TensorSpec,
)
from surgery.passes import cost, expand_findings, fit
from surgery.sizes import site_tensors

MAX_PER_SITE = 4096
MAX_CANDIDATES = 100_000
"""The largest problems that the solver is known to handle have 100,000 columns."""


class _Verdicts(Struct):
    """What becomes of one alternative, layer by layer.

    `off`: its `when` is false; `refused`: the edit is illegal; `blocks`: what the site becomes.
    A `broken` alternative could not be judged, which has been reported.
    """

    alternative: Alternative
    off: list[int] = field(default_factory=list[int])
    refused: dict[int, Refusal] = field(default_factory=dict[int, Refusal])
    blocks: dict[int, Block | None] = field(default_factory=dict[int, "Block | None"])
    broken: bool = False


class _Parent(Struct, frozen=True):
    """The parent as this pass looks at it."""

    spec: Spec
    model: Model
    context: Context
    tensors: Mapping[tuple[int, Site], tuple[TensorSpec, ...]]


def run(spec: Spec, model: Model, sink: Sink) -> Space | None:
    """Expand the choices of `spec` over the layers of `model`."""
    found = Sink()
    parent = _Parent(spec, model, parent_context(spec, model, found), site_tensors(model))
    selected = _selected(parent, found)
    options: dict[tuple[int, Site], SiteOptions] = {}
    if not found.failed:
        for choice, layers in selected:
            options |= _expand(choice, layers, parent, found)
    sink.extend(found.found)
    if found.failed:
        return None
    sites = [(layer.index, site) for layer in model.layers for site in layer.sites]
    space = Space(
        model,
        tuple(options.get(key) or SiteOptions(*key, (_keep(*key, parent),)) for key in sites),
        cost.fixed(model),
    )
    cramped = fit.machines(spec, space)
    sink.extend(cramped)
    return None if cramped else space


def refuse_not_yet(spec: Spec, sink: Sink) -> None:
    """Report as errors what the spec uses and no back end can do yet (E0011): before planning."""
    sink.extend(expand_findings.not_yet(catalog.E0011, entry) for entry in spec.not_yet)


def warn_not_yet(spec: Spec, sink: Sink) -> None:
    """The same as warnings (W0011): for `check`, whose answer does not need a back end."""
    sink.extend(expand_findings.not_yet(catalog.W0011, entry) for entry in spec.not_yet)


# ---- which layers ----------------------------------------------------------------------------


def _selected(parent: _Parent, sink: Sink) -> list[tuple[Choice, tuple[int, ...]]]:
    """The choices with their layers, every layer of which has the site."""
    selected: list[tuple[Choice, tuple[int, ...]]] = []
    for choice in parent.spec.choices:
        try:
            layers = layers_of(choice.selector, parent.model.layers, parent.context)
        except Stop as why:
            sink.report(why.diagnostic)
            continue
        lacking = [n for n in layers if not _has(parent.model, n, choice.site)]
        if lacking:
            sink.report(expand_findings.absent(parent.spec, parent.model, choice, lacking))
        selected.append((choice, layers))
    for n, (later, there) in enumerate(selected):
        for earlier, here in selected[:n]:
            shared = set(here) & set(there)
            if earlier.site is later.site and shared:
                sink.report(expand_findings.overlap(earlier, later, shared))
    _limit(selected, sink)
    return selected


def _has(model: Model, layer: int, site: Site) -> bool:
    found = model.layers[layer]
    return site in found.sites and found.block(site) is not None


def _limit(selected: list[tuple[Choice, tuple[int, ...]]], sink: Sink) -> None:
    """Refuse spaces that cannot be searched, by their size and before they are built."""
    total = 0
    for choice, layers in selected:
        each = len(choice.alternatives)
        total += each * len(layers)
        if each > MAX_PER_SITE or total > MAX_CANDIDATES:
            sink.report(expand_findings.too_many(choice, each, total, MAX_PER_SITE, MAX_CANDIDATES))
            return


# ---- which alternatives ----------------------------------------------------------------------


def _expand(
    choice: Choice, layers: tuple[int, ...], parent: _Parent, sink: Sink
) -> dict[tuple[int, Site], SiteOptions]:
    """The options of every selected layer; layers without any are reported and left out."""
    verdicts = [_judge(a, choice.site, layers, parent, sink) for a in choice.alternatives]
    for verdict in verdicts:
        alternative = verdict.alternative
        if verdict.refused:
            sink.extend(
                expand_findings.refused(
                    parent.spec, choice, alternative, verdict.refused, len(layers)
                )
            )
        elif layers and len(verdict.off) == len(layers):
            sink.report(expand_findings.never_applies(alternative, layers))
    merges = expand_findings.Merges(choice)
    options: dict[tuple[int, Site], SiteOptions] = {}
    bare: list[int] = []
    for index in layers:
        candidates = _candidates(index, choice.site, verdicts, parent, merges)
        if candidates:
            options[index, choice.site] = SiteOptions(index, choice.site, candidates)
        elif not any(v.broken or index in v.refused for v in verdicts):
            bare.append(index)
    sink.extend(merges.findings(len(layers), [len(v.blocks) for v in verdicts]))
    if bare:
        off = [v.alternative for v in verdicts if set(bare) & set(v.off)]
        sink.report(expand_findings.nothing_left(choice, bare, off))
    return options


def _judge(
    alternative: Alternative, site: Site, layers: tuple[int, ...], parent: _Parent, sink: Sink
) -> _Verdicts:
    verdicts = _Verdicts(alternative)
    edit = edits.known(site, alternative.edit) if alternative.edit != "keep" else None
    for index in layers:
        layer = parent.model.layers[index]
        block = layer.block(site)
        try:
            if alternative.when is not None and not holds(
                alternative.when, replace(parent.context, layer=layer)
            ):
                verdicts.off.append(index)
                continue
        except Stop as why:
            sink.report(why.diagnostic)
            verdicts.broken = True
            return verdicts
        if edit is None or block is None:
            verdicts.blocks[index] = block
        elif refusal := edits.refuse(parent.model, block, site, alternative):
            verdicts.refused[index] = refusal
        else:
            verdicts.blocks[index] = edit.become(block, edits.argument(alternative))
    return verdicts


# ---- candidates ------------------------------------------------------------------------------


def _candidates(
    index: int,
    site: Site,
    verdicts: list[_Verdicts],
    parent: _Parent,
    merges: expand_findings.Merges,
) -> tuple[Candidate, ...]:
    """The distinct candidates of one site in canonical order."""
    made: dict[str, Candidate] = {}
    # An explicit `keep` first, so that whatever restates it is what gets reported.
    offered = [v for v in verdicts if index in v.blocks]
    for verdict in sorted(offered, key=lambda v: v.alternative.edit != "keep"):
        candidate = _candidate(index, site, verdict, parent)
        if not candidate.changed and verdict.alternative.edit != "keep":
            merges.restates_keep(index, verdict.alternative, candidate.text)
        elif candidate.text in made:
            merges.same_text(index, verdict.alternative, made[candidate.text])
        made.setdefault(candidate.text, candidate)
    return tuple(sorted(made.values(), key=_order))


def _candidate(index: int, site: Site, verdict: _Verdicts, parent: _Parent) -> Candidate:
    alternative = verdict.alternative
    block = parent.model.layers[index].block(site)
    child = verdict.blocks[index]
    if alternative.edit == "keep":
        return _keep(index, site, parent, alternative)
    if child == block or block is None:
        return _keep(index, site, parent)
    text = edits.known(site, alternative.edit).text(edits.argument(alternative))
    tensors = parent.tensors[index, site]
    price = cost.alternative_cost(tensors, block, child, site, alternative)
    candidate = Candidate(_address(index, site, text), index, site, text, child, price, alternative)
    if edits.selects(alternative.edit):
        return candidate
    return replace(candidate, artefact=edits.artefact(parent.model, candidate))


def _keep(
    index: int, site: Site, parent: _Parent, alternative: Alternative | None = None
) -> Candidate:
    return unchanged(parent.model, index, site, parent.tensors[index, site], alternative)


def unchanged(
    model: Model,
    index: int,
    site: Site,
    tensors: tuple[TensorSpec, ...],
    alternative: Alternative | None = None,
) -> Candidate:
    """The parent's own block, stored as `tensors`, as a candidate."""
    block = model.layers[index].block(site)
    text = edits.keep_text(site, block)
    price = cost.block_cost(block, tensors)
    return Candidate(_address(index, site, text), index, site, text, block, price, alternative)


def _address(index: int, site: Site, text: str) -> str:
    return f"layer.{index}.{site}.{text}"


def _order(candidate: Candidate) -> tuple[int, int]:
    """`keep`, then the edits in registry order, each by falling value."""
    alternative = candidate.alternative
    if alternative is None or not candidate.changed:
        return (-1, 0)
    edit = edits.known(candidate.site, alternative.edit)
    return (edits.EDITS.index(edit), -edits.argument(alternative))
