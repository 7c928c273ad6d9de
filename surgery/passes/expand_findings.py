"""What `expand` has to say: one finding per mistake, with the layers it concerns folded.

In: choices, alternatives and the layers that a finding is about. Out: `Diagnostic`s. Decides
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, field

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Help, Label
from surgery.edits import Refusal, argument
from surgery.ir import Alternative, Candidate, Choice, Model, NotYet, Site, Spec
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


def _header(choice: Choice) -> Span:
    """`choose SITE in SELECTOR`, without the alternatives."""
    return Span(choice.span.source, choice.span.start, choice.selector.span.end)


def not_yet(code: Code, entry: NotYet) -> Diagnostic:
    """E0011 or W0011 for one thing that checks but has no back end."""
    label = Label(entry.span, primary=True)
    return Diagnostic(code, f"{entry.what} has no back end yet", (label,))


def absent(spec: Spec, model: Model, choice: Choice, lacking: list[int]) -> Diagnostic:
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
    return Diagnostic(catalog.E0403, message, tuple(labels), helps=(Help(help),))


def overlap(earlier: Choice, later: Choice, shared: set[int]) -> Diagnostic:
    """E0404: two choices for one site of a layer."""
    message = f"two choices for `{later.site}` share {_layers(shared)}"
    labels = (
        Label(_header(later), f"selects {_layers(shared)} again", primary=True),
        Label(_header(earlier), f"`{earlier.site}` is chosen here first"),
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
    return Diagnostic(catalog.E0414, message, (Label(_header(choice), here, primary=True),))


def refused(
    spec: Spec, alternative: Alternative, refusals: Mapping[int, Refusal], selected: int
) -> Iterable[Diagnostic]:
    """One finding per reason why an edit is illegal, with the layers of each.

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
        helps = tuple(Help(text) for text in dict.fromkeys(r.help for r in reasons) if text)
        yield Diagnostic(code, message, tuple(labels), helps=helps)


def never_applies(alternative: Alternative, layers: tuple[int, ...]) -> Diagnostic:
    """W0701: a `when` that is false everywhere."""
    span = alternative.when.span if alternative.when else alternative.span
    message = f"this `when` holds in none of the {len(layers)} selected layers"
    label = Label(span, f"false in {_layers(layers)}", primary=True)
    return Diagnostic(catalog.W0701, message, (label,))


def nothing_left(choice: Choice, bare: list[int], off: list[Alternative]) -> Diagnostic:
    """E0602: layers whose every alternative is ruled out by a `when`."""
    verb = "has" if len(bare) == 1 else "have"
    message = f"{_layers(bare)} {verb} no alternative left for `{choice.site}`"
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

    choice: Choice
    kept: dict[tuple[int, str], list[int]] = field(default_factory=dict[tuple[int, str], list[int]])
    same: dict[tuple[int, int], list[int]] = field(default_factory=dict[tuple[int, int], list[int]])

    def restates_keep(self, layer: int, alternative: Alternative, text: str) -> None:
        """`alternative` leaves the block of `layer` as it is."""
        self.kept.setdefault((self._place(alternative), text), []).append(layer)

    def same_text(self, layer: int, alternative: Alternative, first: Candidate) -> None:
        """`alternative` comes to what the candidate `first` of the layer comes to."""
        if first.alternative is not None:
            key = (self._place(alternative), self._place(first.alternative))
            self.same.setdefault(key, []).append(layer)

    def _place(self, alternative: Alternative) -> int:
        return next(n for n, each in enumerate(self.choice.alternatives) if each is alternative)

    def findings(self, selected: int) -> Iterable[Diagnostic]:
        """W0707 for what restates another alternative, E0415 for what only looks as if it did."""
        alternatives = self.choice.alternatives
        for (place, text), layers in self.kept.items():
            offered = any(each.edit == "keep" for each in alternatives)
            yield _restated(alternatives[place], text, _in_layers(layers, selected), offered)
        for (place, first), layers in self.same.items():
            yield _same(alternatives[place], alternatives[first], _in_layers(layers, selected))


def _restated(alternative: Alternative, text: str, where: str, offered: bool) -> Diagnostic:
    help = "remove the alternative; `keep` says the same" if offered else "write `keep` instead"
    return Diagnostic(
        catalog.W0707,
        f"`{_written(alternative)}` changes nothing{where}",
        (Label(alternative.span, f"the parent has {text} already", primary=True),),
        helps=(Help(help),),
    )


def _same(later: Alternative, first: Alternative, where: str) -> Diagnostic:
    labels = (
        Label(later.span, "again here", primary=True),
        Label(first.span, f"`{_written(first)}` is offered here"),
    )
    if _identity(later) == _identity(first):
        message = f"`{_written(later)}` is offered twice{where}"
        return Diagnostic(catalog.W0707, message, labels, helps=(Help("remove one of the two"),))
    return Diagnostic(
        catalog.E0415,
        f"`{_written(later)}` is offered with two rankings or initialisers{where}",
        labels,
        notes=("a plan names an alternative by what the site becomes",),
        helps=(Help("keep one of the two, or give them disjoint `when` conditions"),),
    )


def _identity(alternative: Alternative) -> tuple[object, ...]:
    by = alternative.by
    ranking = (by.criterion, by.dataset) if by else None
    initialiser = (alternative.init, alternative.init_dataset)
    return (alternative.edit, alternative.value, ranking, initialiser)
