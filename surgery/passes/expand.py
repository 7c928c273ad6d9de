"""Spec x Model -> Space: every legal alternative of every site of every layer.

In: a checked spec and the parent. Out: a `Space` in canonical order (layer, site; `keep` first,
then edits in registry order by falling value, each as the parent's facets are and then as they may
be), or `None` with errors in the sink. Selectors and `when` are evaluated on the parent. Sites that
no `choose` selects have their parent block alone.

A facet multiplies the alternatives of its site: `keep` and `window 8K tok`, each with keys and
values in BF16 and in FP8, are four candidates. A combination that cannot be (`retain 3` where four
experts are active) is left out; an alternative that is legal in no combination is an error.

Refuses: what the layer does not have (E0403), two choices for one site of a layer (E0404), illegal
arguments (E0405 to E0409, by `edits/`), layers left without any alternative (E0602), more
candidates than can be searched (E0414), alternatives that differ but become the same text (E0415),
layers and experts that a machine cannot share (E0418, `sharding.py`; E0417, `share.py`), spaces
without a child that has room on its machine (E0506, `fit.py`).
Findings about many layers are one finding with layer ranges. Not here: rankings, time, rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog, edits
from surgery.diagnostics import Sink
from surgery.edits import Refusal
from surgery.evaluate import parent_context
from surgery.ir import (
    Alternative,
    Block,
    Candidate,
    Choice,
    Experts,
    Model,
    Site,
    SiteOptions,
    Space,
    Spec,
    TensorSpec,
)
from surgery.passes import (
    cost,
    expand_facets,
    expand_findings,
    expand_rope,
    fit,
    sharding,
    share,
)
from surgery.passes.expand_facets import NONE, Facets
from surgery.passes.expand_layers import (
    Combination,
    Make,
    Parent,
    Verdicts,
    judge,
    report,
    report_bare,
    select,
)
from surgery.sizes import site_tensors

MAX_PER_SITE = 4096
MAX_CANDIDATES = 100_000
"""The largest problems that the solver is known to handle have 100,000 columns."""


class _Ground(Struct, frozen=True):
    """What candidates are made on: the parent, its tensors, what its facets can be."""

    parent: Parent
    tensors: Mapping[tuple[int, Site], tuple[TensorSpec, ...]]
    facets: Facets

    def block(self, index: int, site: Site) -> Block | None:
        """The parent's block."""
        return self.parent.model.layers[index].block(site)

    def facets_of(self, index: int, site: Site) -> tuple[Alternative | None, ...]:
        """What the facet of a site can be, the parent's own alone where nobody asks."""
        return self.facets.get((index, site), NONE)


def run(spec: Spec, model: Model, sink: Sink) -> Space | None:
    """Expand the choices of `spec` over the layers of `model`."""
    found = Sink()
    parent = Parent(spec, model, parent_context(spec, model, found))
    found.extend(expand_rope.refused(spec, model))
    selected = select(spec.choices, parent, found)
    ground = _Ground(parent, site_tensors(model), expand_facets.run(parent, found))
    _limit(selected, ground, found)
    options: dict[tuple[int, Site], SiteOptions] = {}
    if not found.failed:
        for choice, layers in selected:
            options |= _expand(choice, layers, ground, found)
    sink.extend(found.found)
    if found.failed:
        return None
    sites = [(layer.index, site) for layer in model.layers for site in layer.sites]
    made = tuple(options.get(key) or SiteOptions(*key, _alone(*key, ground)) for key in sites)
    space = Space(model, made, cost.fixed(model))
    unfit = (
        *share.run(spec, space),
        *sharding.findings(spec, space),
        *fit.machines(spec, space),
    )
    sink.extend(unfit)
    return None if unfit else space


def refuse_not_yet(spec: Spec, sink: Sink) -> None:
    """Report as errors what the spec uses and no back end can do yet (E0011): before planning."""
    sink.extend(expand_findings.not_yet(catalog.E0011, entry) for entry in spec.not_yet)


def warn_not_yet(spec: Spec, sink: Sink) -> None:
    """The same as warnings (W0011): for `check`, whose answer does not need a back end."""
    sink.extend(expand_findings.not_yet(catalog.W0011, entry) for entry in spec.not_yet)


def _limit(selected: list[tuple[Choice, tuple[int, ...]]], ground: _Ground, sink: Sink) -> None:
    """Refuse spaces that cannot be searched, by their size and before they are built."""
    total = 0
    for choice, layers in selected:
        sizes = [len(ground.facets_of(n, choice.site)) for n in layers]
        each = len(choice.alternatives) * max(sizes, default=1)
        total += len(choice.alternatives) * sum(sizes)
        if each > MAX_PER_SITE or total > MAX_CANDIDATES:
            sink.report(expand_findings.too_many(choice, each, total, MAX_PER_SITE, MAX_CANDIDATES))
            return


# ---- which alternatives ----------------------------------------------------------------------


def _expand(
    choice: Choice, layers: tuple[int, ...], ground: _Ground, sink: Sink
) -> dict[tuple[int, Site], SiteOptions]:
    """The options of every selected layer; layers without any are reported and left out."""
    parent = ground.parent
    verdicts = [
        judge(a, choice.site, layers, parent, _make(a, choice.site, ground), sink)
        for a in choice.alternatives
    ]
    report(verdicts, choice, layers, parent, sink)
    merges = expand_findings.Merges(choice)
    options: dict[tuple[int, Site], SiteOptions] = {}
    for index in layers:
        candidates = _candidates(index, choice.site, verdicts, ground, merges)
        if candidates:
            options[index, choice.site] = SiteOptions(index, choice.site, candidates)
    sink.extend(merges.findings(len(layers), [len(v.made) for v in verdicts]))
    report_bare(verdicts, choice, (n for n in layers if (n, choice.site) not in options), sink)
    return options


def _make(alternative: Alternative, site: Site, ground: _Ground) -> Make:
    """With every facet of the layer that the edit is legal with; why not, if with none."""
    edit = edits.known(site, alternative.edit) if alternative.edit != "keep" else None

    def make(index: int, block: Block | None) -> Refusal | tuple[Combination, ...]:
        made: list[Combination] = []
        refusals: list[Refusal] = []
        for facet in ground.facets_of(index, site):
            base = None if block is None else edits.with_facet(block, facet)
            if edit is None or base is None:
                made.append((facet, base))
            elif refusal := edits.refuse(ground.parent.model, base, site, alternative):
                refusals.append(refusal)
            else:
                made.append((facet, edit.become(base, edits.argument(alternative))))
        return tuple(made) if made or not refusals else min(refusals, key=lambda r: r.legal)

    return make


# ---- candidates ------------------------------------------------------------------------------


def _candidates(
    index: int,
    site: Site,
    verdicts: Iterable[Verdicts],
    ground: _Ground,
    merges: expand_findings.Merges,
) -> tuple[Candidate, ...]:
    """The distinct candidates of one site in canonical order."""
    made: dict[str, Candidate] = {}
    # An explicit `keep` first, so that whatever restates it is what gets reported.
    offered = [v for v in verdicts if index in v.made]
    for verdict in sorted(offered, key=lambda v: v.alternative.edit != "keep"):
        chosen = verdict.alternative
        for facet, child in verdict.made[index]:
            candidate = _candidate(index, site, chosen, (facet, child), ground)
            first = made.setdefault(candidate.text, candidate)
            if candidate.edit == "keep" and chosen.edit != "keep":
                text = edits.keep_text(site, ground.block(index, site))
                merges.restates_keep(index, chosen, text)
            elif first.alternative is not None and first.alternative is not chosen:
                merges.same_text(index, chosen, first.alternative)
    return tuple(sorted(made.values(), key=_order))


def _alone(index: int, site: Site, ground: _Ground) -> tuple[Candidate, ...]:
    """The parent's block, with whatever its facet can be."""
    block = ground.block(index, site)
    made: list[Candidate] = []
    for facet in ground.facets_of(index, site):
        child = None if block is None else edits.with_facet(block, facet)
        made.append(_candidate(index, site, None, (facet, child), ground))
    return tuple(made)


def _candidate(
    index: int,
    site: Site,
    chosen: Alternative | None,
    combination: Combination,
    ground: _Ground,
) -> Candidate:
    model, block = ground.parent.model, ground.block(index, site)
    tensors, (facet, child) = ground.tensors[index, site], combination
    facet = facet if edits.shown(facet, child) else None
    # What leaves the block as it is, is no edit of it.
    edited = chosen is not None and chosen.edit != "keep"
    if block is None or child == edits.with_facet(block, facet):
        chosen, edited = None if edited else chosen, False
    if block is None or (facet is None and not edited):
        return unchanged(model, index, site, tensors, chosen)
    text = edits.keep_text(site, block)
    if chosen is not None and edited:
        text = edits.known(site, chosen.edit).text(edits.argument(chosen))
    text += edits.suffix(facet)
    price = cost.alternative_cost(tensors, block, child, site, chosen, facet)
    candidate = Candidate(
        _address(index, site, text), index, site, text, child, price, chosen, facet=facet
    )
    if not edited and isinstance(block, Experts):
        # Said, because `128+top3` alone does not say of how many.
        candidate = replace(candidate, kept=tuple(range(block.count)))
    if edits.missing(candidate):
        return candidate
    return replace(candidate, artefact=edits.artefact(model, candidate))


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


def _order(candidate: Candidate) -> tuple[int, int, tuple[int, int]]:
    """`keep`, then the edits in registry order, each by falling value; facets within them."""
    alternative, facet = candidate.alternative, expand_facets.order(candidate.facet)
    if alternative is None or candidate.edit == "keep":
        return (-1, 0, facet)
    edit = edits.known(candidate.site, alternative.edit)
    return (edits.EDITS.index(edit), -edits.argument(alternative), facet)
