"""What `expand` has to say: one finding per mistake, with the layers it concerns folded.

In: choices, alternatives and the layers that a finding is about. Out: `Diagnostic`s. Decides
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct, field

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.edits import Refusal, argument
from surgery.edits.rewriting import dropped, replaced
from surgery.ir import Alternative, Choice, Facet, Model, NotYet, Site, Spec
from surgery.source import Span
from surgery.units import format_layers

_NOUNS = {
    Site.ATTENTION: "attention",
    Site.FFN: "dense FFN",
    Site.EXPERTS: "experts",
}

_TESTS = {
    Site.ATTENTION: "attention is not noop",
    Site.FFN: "ffn is dense",
    Site.EXPERTS: "experts is moe",
}


def _layers(indices: Collection[int]) -> str:
    word = "layer" if len(set(indices)) == 1 else "layers"
    return f"{word} {format_layers(indices)}"


def _in_layers(indices: Collection[int], selected: int) -> str:
    """` in layers 14-17`, or nothing where every selected layer is meant."""
    return "" if len(indices) == selected else f" in {_layers(indices)}"


def _header(choice: Choice | Facet) -> Span:
    """`choose SITE in SELECTOR`, without the alternatives."""
    end = choice.selector.span.end if choice.selector else choice.span.end
    return Span(choice.span.source, choice.span.start, end)


def _subject(choice: Choice | Facet) -> str:
    """What is chosen: a site, or a facet of one."""
    return str(choice.kind if isinstance(choice, Facet) else choice.site)


def not_yet(code: Code, entry: NotYet) -> Diagnostic:
    """E0011 or W0011 for one thing that checks but has no back end."""
    label = Label(entry.span, "checked, and cannot be carried out", primary=True)
    return Diagnostic(code, f"{entry.what} has no back end yet", (label,))


def absent(spec: Spec, model: Model, choice: Choice | Facet, lacking: list[int]) -> Diagnostic:
    """E0403: the model, or some selected layers, do not have the site."""
    site, noun = choice.site, _NOUNS[choice.site]
    labels = [Label(_header(choice), f"no {noun} in {_layers(lacking)}", primary=True)]
    offered = {s for layer in model.layers for s in layer.sites if layer.block(s) is not None}
    if site in offered:
        verb = "has" if len(lacking) == 1 else "have"
        message = f"{_layers(lacking)} of the model {verb} no {noun}"
        help = f"select the layers that have it: `layers where {_TESTS[site]}`"
    else:
        message = f"the model `{model.name}` has no {noun}"
        listed = " and ".join(_NOUNS[s] for s in Site if s in offered)
        labels.append(Label(spec.model.span, f"its layers have {listed}"))
        others = [f"`{s}`" for s in Site if s in offered and s is not Site.ATTENTION]
        help = f"choose {' or '.join(others)} instead"
        if isinstance(choice, Facet):
            help = f"remove it: `{choice.kind}` is about {noun}"
    return Diagnostic(catalog.E0403, message, tuple(labels), helps=(Help(help),))


def overlap(earlier: Choice | Facet, later: Choice | Facet, shared: set[int]) -> Diagnostic:
    """E0404: two choices for one site of a layer."""
    message = f"two choices for `{_subject(later)}` share {_layers(shared)}"
    labels = (
        Label(_header(later), f"selects {_layers(shared)} again", primary=True),
        Label(_header(earlier), f"`{_subject(earlier)}` is chosen here first"),
    )
    helps = (Help("make the selections disjoint with `except`, or merge the two choices"),)
    return Diagnostic(catalog.E0404, message, labels, helps=helps)


def too_many(choice: Choice, each: int, total: int, per_site: int, overall: int) -> Diagnostic:
    """E0414: a space that cannot be searched."""
    if each > per_site:
        message = f"{each} alternatives for one site are more than {per_site}"
        here = f"{each} alternatives"
    else:
        message = f"{total} candidates are more than {overall}"
        here = f"{total} candidates with this choice"
    labels = (Label(_header(choice), here, primary=True),)
    helps = (Help("offer fewer alternatives, or select fewer layers"),)
    return Diagnostic(catalog.E0414, message, labels, helps=helps)


def refused(
    spec: Spec,
    choice: Choice | Facet,
    alternative: Alternative,
    refusals: Mapping[int, Refusal],
    selected: int,
) -> Iterable[Diagnostic]:
    """One finding per reason why an edit is illegal, with the layers of each and a way out.

    Of the parent it says what holds in the first of them.
    """
    grouped: dict[tuple[Code, str], dict[Refusal, list[int]]] = {}
    for index, refusal in sorted(refusals.items()):
        reasons = grouped.setdefault((refusal.code, refusal.message), {})
        reasons.setdefault(refusal, []).append(index)
    for (code, message), reasons in grouped.items():
        here = "; ".join(
            f"{refusal.here}{_in_layers(indices, selected)}" for refusal, indices in reasons.items()
        )
        labels = [Label(alternative.span, here, primary=True)]
        first = next(iter(reasons))
        if first.why:
            labels.append(Label(spec.model.span, first.why))
        texts = tuple(dict.fromkeys(reason.help for reason in reasons if reason.help))
        fix = _way_out(choice, alternative, tuple(reasons))
        helps = tuple(Help(text, fix if n == 0 else None) for n, text in enumerate(texts))
        yield Diagnostic(code, message, tuple(labels), helps=helps)


_SURE = frozenset({catalog.E0407, catalog.E0409})
"""Refusals of which the nearest legal value is probably what was meant."""


def _way_out(choice: Choice | Facet, alternative: Alternative, reasons: tuple[Refusal, ...]) -> Fix:
    """The best value that all layers allow and nobody offers yet, or no such alternative.

    The value of an `apply` cannot go, so that it becomes the least that some layer allows.
    """
    offered = {each.value for each in choice.alternatives if each.edit == alternative.edit}
    legal = (
        value
        for value in reasons[0].legal
        if value not in offered and all(value in reason.legal for reason in reasons)
    )
    value = next(legal, None)
    if value is None and isinstance(choice, Facet) and choice.applied:
        value = min(value for reason in reasons for value in reason.legal)
    edit = dropped(alternative, choice.alternatives)
    edit = edit if value is None else replaced(alternative, value)
    return Fix((edit,), Safety.UNSAFE if reasons[0].code in _SURE else Safety.DISPLAY)


def never_applies(alternative: Alternative, layers: tuple[int, ...]) -> Diagnostic:
    """W0701: a `when` that is false everywhere."""
    span = alternative.when.span if alternative.when else alternative.span
    message = f"this `when` holds in none of the {len(layers)} selected layers"
    label = Label(span, f"false in {_layers(layers)}", primary=True)
    return Diagnostic(catalog.W0701, message, (label,))


def nothing_left(choice: Choice | Facet, bare: list[int], off: list[Alternative]) -> Diagnostic:
    """E0602: layers whose every alternative is ruled out by a `when`."""
    verb = "has" if len(bare) == 1 else "have"
    message = f"{_layers(bare)} {verb} no alternative left for `{_subject(choice)}`"
    labels = [Label(_header(choice), f"selects {_layers(bare)}", primary=True)]
    for alternative in off:
        span = alternative.when.span if alternative.when else alternative.span
        labels.append(Label(span, f"removes `{_written(alternative)}` there"))
    helps = (Help("add `keep`, or select fewer layers"),)
    return Diagnostic(catalog.E0602, message, tuple(labels), helps=helps)


def _written(alternative: Alternative) -> str:
    if alternative.value is None:
        return alternative.edit
    return f"{alternative.edit} {argument(alternative)}"


class Merges(Struct):
    """Collects, over the layers of a choice, alternatives that come to the same thing."""

    choice: Choice | Facet
    kept: dict[int, dict[int, str]] = field(default_factory=dict[int, dict[int, str]])
    """Place of an alternative -> the layers that it leaves alone, each with its block."""
    same: dict[tuple[int, int], list[int]] = field(default_factory=dict[tuple[int, int], list[int]])

    def restates_keep(self, layer: int, alternative: Alternative, text: str) -> None:
        """`alternative` leaves the block of `layer` as it is."""
        self.kept.setdefault(self._place(alternative), {})[layer] = text

    def same_text(self, layer: int, alternative: Alternative, first: Alternative) -> None:
        """`alternative` comes to what the alternative `first` of the layer comes to."""
        layers = self.same.setdefault((self._place(alternative), self._place(first)), [])
        # Facets of the site may bring two alternatives together more than once.
        if layer not in layers:
            layers.append(layer)

    def _place(self, alternative: Alternative) -> int:
        return next(n for n, each in enumerate(self.choice.alternatives) if each is alternative)

    def findings(self, selected: int, applies: Sequence[int]) -> Iterable[Diagnostic]:
        """W0707 for what restates another alternative, E0415 for what only looks as if it did.

        `applies` counts the layers that each alternative is offered in. One that decides something
        in at least one of them is no restatement: layers need not be alike.
        """
        alternatives = self.choice.alternatives
        for place, texts in self.kept.items():
            if len(texts) == applies[place]:
                yield _restated(self.choice, alternatives[place], " or ".join(_distinct(texts)))
        for (place, first), layers in self.same.items():
            later, earlier = alternatives[place], alternatives[first]
            if _identity(later) != _identity(earlier):
                yield _ambiguous(later, earlier, _in_layers(layers, selected))
            elif len(layers) == applies[place]:
                yield _repeated(self.choice, later, earlier)


def _distinct(texts: Mapping[int, str]) -> list[str]:
    return list(dict.fromkeys(texts.values()))


def _restated(choice: Choice | Facet, alternative: Alternative, text: str) -> Diagnostic:
    edits = [dropped(alternative, choice.alternatives)]
    help = "remove the alternative; `keep` says the same"
    if all(each.edit != "keep" for each in choice.alternatives):
        help = "write `keep` instead"
        clause = alternative.clause or alternative.span
        alone = all(each.clause != clause or each is alternative for each in choice.alternatives)
        start = Span(clause.source, clause.start, clause.start)
        edits = [Edit(clause, "keep")] if alone else [Edit(start, "keep "), *edits]
    return Diagnostic(
        catalog.W0707,
        f"`{_written(alternative)}` changes nothing",
        (Label(alternative.span, f"the parent has {text} already", primary=True),),
        helps=(Help(help, Fix(tuple(edits), Safety.SAFE)),),
    )


def _repeated(choice: Choice | Facet, later: Alternative, first: Alternative) -> Diagnostic:
    fix = Fix((dropped(later, choice.alternatives),), Safety.SAFE)
    return Diagnostic(
        catalog.W0707,
        f"`{_written(later)}` is offered twice",
        (
            Label(later.span, "again here", primary=True),
            Label(first.span, "offered here, in all of the same layers"),
        ),
        helps=(Help("remove one of the two", fix),),
    )


def _ambiguous(later: Alternative, first: Alternative, where: str) -> Diagnostic:
    return Diagnostic(
        catalog.E0415,
        f"`{_written(later)}` is offered with two rankings or initialisers{where}",
        (
            Label(later.span, "again here, with another", primary=True),
            Label(first.span, "offered here with one"),
        ),
        notes=("a plan names an alternative by what the site becomes, not by how",),
        helps=(Help("keep one of the two, or give them disjoint `when` conditions"),),
    )


def _identity(alternative: Alternative) -> tuple[object, ...]:
    by = alternative.by
    ranking = (by.criterion, by.dataset) if by else None
    initialiser = (alternative.init, alternative.init_dataset)
    return (alternative.edit, alternative.value, ranking, initialiser)
