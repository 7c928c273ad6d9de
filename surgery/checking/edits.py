"""Edits: `choose`.

In: its statements. Out: `ir.Choice`s, and `ir.Facet`s for what is chosen about a site besides; what
has no back end yet is noted instead (whole sites, single alternatives). Reports sites and edits
that do not exist (E0201), arguments, rankings and initialisers that an edit does not take or cannot
do without (E0303), values it cannot have (E0302, E0309), and alternatives listed twice (E0202);
warns of a `choose` with a single alternative (W0719). `apply` has a file of its own (`apply.py`).
Which values a model allows is not known here (`passes/expand.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from surgery import catalog, ir
from surgery.checking.layers import layer_condition, selector
from surgery.checking.names import quoted, unknown
from surgery.checking.repairs import import_edit, one_of, only, removing
from surgery.checking.scope import Check, Scope
from surgery.checking.tables import EDITS, FACETS, READY_SITES, EditRule
from surgery.checking.types import Misfit, fit
from surgery.checking.values import Failed, Made, noun
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.expr import Number
from surgery.grammar import ast
from surgery.source import Span

_FIRST = {"keep": -1}


def choose(check: Check, node: ast.Choose) -> ir.Choice | ir.Facet | None:
    """`choose SITE in LAYERS { ... }`; `None` after a report, or when it has no back end yet."""
    scope = Scope(check.main)
    site = node.site.text
    if site not in EDITS:
        unknown(check, "site", node.site, EDITS, "a `choose` can change")
        return None
    chosen = selector(check, node.where, scope)
    offered = _offered(check, node, scope)
    if offered is None or chosen is None or _repeated(check, offered[0]):
        return None
    found, later = offered
    if len(found) + len(later) == 1:
        _single(check, node)
    if site not in (*READY_SITES, *FACETS):
        check.later(node.head, f"`choose {site}`")
        check.meaning.append(("choose", site, chosen, tuple(a for _, a, _ in later)))
        return None
    for span, one, reason in later:
        check.later(span, reason)
        check.meaning.append(("choose", site, chosen, one))
    alternatives = tuple(sorted(found, key=_order(site)))
    if site in FACETS:
        return ir.Facet(node.head, ir.FacetKind(site), chosen, alternatives)
    return ir.Choice(node.head, ir.Site(site), chosen, alternatives)


def _offered(
    check: Check, node: ast.Choose, scope: Scope
) -> tuple[list[ir.Alternative], list[tuple[Span, ir.Alternative, str]]] | None:
    """The alternatives, and apart from them those without a back end; `None` after a report."""
    found: list[ir.Alternative] = []
    later: list[tuple[Span, ir.Alternative, str]] = []
    good = True
    for each in node.alternatives:
        if isinstance(each, ast.Keep):
            found.append(ir.Alternative(each.span, "keep", clause=each.span))
            continue
        made = _edit(check, each, node.site.text, scope)
        if made is None:
            good = False
        elif reason := _not_ready(each, node.site.text, made):
            later += [(each.span, one, reason) for one in made]
        else:
            found += made
    return (found, later) if good else None


def _order(site: str) -> Callable[[ir.Alternative], tuple[int, int]]:
    """Canonical order of alternatives: `keep`, then by edit, larger values first."""
    rank = {rule.name: n for n, rule in enumerate(EDITS[site])} | _FIRST

    def key(alternative: ir.Alternative) -> tuple[int, int]:
        value = alternative.value
        return rank[alternative.edit], -int(value) if value is not None else 0

    return key


def _not_ready(node: ast.Edit, site: str, made: tuple[ir.Alternative, ...]) -> str:
    """What has no back end yet about an alternative, or nothing."""
    rule = next(rule for rule in EDITS[site] if rule.name == node.name.text)
    if not rule.ready:
        return f"the edit `{rule.name}` of {site}"
    if any(one.init == "least_squares" for one in made):
        return "`init least_squares`"
    return ""


def _single(check: Check, node: ast.Choose) -> None:
    """W0719: legal, as the identity or a fixed edit, but perhaps not what was meant."""
    if check.main.tree.has_hole(node.span):
        return
    message = f"`choose {node.site.text}` has one alternative, so it decides nothing"
    one = Label(node.alternatives[0].span, "the only alternative")
    labels = (Label(node.head, "nothing to decide", primary=True), one)
    check.sink.report(Diagnostic(catalog.W0719, message, labels))


def _repeated(check: Check, found: list[ir.Alternative]) -> bool:
    """Report an alternative that is listed twice; conditions may make two of the same differ."""
    seen: dict[tuple[str, object], ir.Alternative] = {}
    for one in found:
        first = seen.setdefault((one.edit, one.value), one)
        if first is not one and first.when is None and one.when is None:
            text = one.edit if one.value is None else f"{one.edit} {one.span.text}"
            also = Label(first.span, "first listed here")
            message = f"the alternative `{text}` is listed twice"
            check.error(catalog.E0202, message, one.span, "listed again", also)
            return True
    return False


# ---- alternatives ----------------------------------------------------------------------------


def _edit(
    check: Check, node: ast.Edit, site: str, scope: Scope
) -> tuple[ir.Alternative, ...] | None:
    rules = {rule.name: rule for rule in EDITS[site]}
    rule = rules.get(node.name.text)
    if rule is None:
        unknown(check, "edit", node.name, ("keep", *rules), f"the edits of `{site}` are")
        return None
    values = _values(check, node, rule, scope)
    by = _ranking(check, node, rule, scope)
    init = _init(check, node, rule, scope)
    when = layer_condition(check, node.when, scope, "`when`") if node.when else None
    if values is None or by is None or init is None or (node.when and when is None):
        return None
    name, dataset = init or (None, None)
    ranking = by[0] if by else None
    return tuple(
        ir.Alternative(span, rule.name, value, ranking, name, dataset, when, node.span)
        for span, value in values
    )


def _wrong(
    check: Check, rule: EditRule, span: Span, message: str, label: str, *helps: Help
) -> None:
    """E0303: what an edit takes, and how it is written."""
    notes = (f"it is written `{rule.signature}`",)
    check.error(catalog.E0303, message, span, label, notes=notes, helps=helps)


def _clause(keyword: str, node: ast.Edit, value: ast.Expr) -> Help:
    """Leaves out `by ...` or `init ...`, which the tree keeps without its keyword."""
    text = value.span.source.text
    start = text.rfind(keyword, node.span.start, value.span.start)
    return removing("leave it out", Span(value.span.source, start, value.span.end))


def _ranked(
    rule: EditRule, scope: Scope, place: Span, dataset: str | None, word: str = ""
) -> tuple[Help, ...]:
    """Puts a ranking on a dataset into a place, and imports what it comes from."""
    if dataset is None:
        return ()
    text = rule.example.replace("text", dataset)
    edits = [Edit(place, f"{word}{text}")]
    owner, point, _ = rule.example.partition(".")
    if point and owner not in scope.module.imports:
        edits.insert(0, import_edit(scope.module.source, scope.module.tree, owner))
    help = f"rank them by `{text}`" if rule.asks != "scales" else f"scale them by `{text}`"
    return (Help(help, Fix(tuple(edits), Safety.UNSAFE)),)


def _values(
    check: Check, node: ast.Edit, rule: EditRule, scope: Scope
) -> tuple[tuple[Span, Fraction | None], ...] | None:
    """The arguments, one alternative each; none at all is one alternative too."""
    if not rule.value:
        if node.args:
            message = f"`{rule.name}` takes no value"
            help = removing("leave it out", node.args[0].span.to(node.args[-1].span))
            return _wrong(check, rule, node.args[0].span, message, "not needed", help)
        return ((node.name.span, None),)
    if not node.args:
        return _wrong(check, rule, node.name.span, f"`{rule.name}` needs a value", "how much")
    found: list[tuple[Span, Fraction | None]] = []
    for arg in node.args:
        value = check.value(arg, scope)
        fitting = fit(value, rule.value)
        if isinstance(fitting, Misfit):
            message = f"the value of `{rule.name}` {fitting.problem}"
            check.error(fitting.code, message, arg.span, fitting.label, helps=fitting.helps)
        elif isinstance(fitting, Number) and fitting.value >= 1:
            found.append((arg.span, fitting.value))
        elif not isinstance(fitting, Failed):
            message = f"the value of `{rule.name}` cannot be `{arg.span.text}`"
            label = "wants a number that is known now, at least 1"
            check.error(catalog.E0309, message, arg.span, label)
    return tuple(found) if len(found) == len(node.args) else None


def _ranking(
    check: Check, node: ast.Edit, rule: EditRule, scope: Scope
) -> tuple[ir.Ranking, ...] | None:
    """What follows `by`: nothing when nothing must, `None` after a report."""
    if node.by is None:
        if not rule.rankings:
            return ()
        message = f"`{rule.name}` needs {rule.asks}"
        at = node.args[-1].span.end if node.args else node.name.span.end
        place = Span(node.span.source, at, at)
        helps = _ranked(rule, scope, place, only(scope.module, "dataset"), " by ")
        label = "by what ranking" if rule.asks != "scales" else "scaled by what"
        return _wrong(check, rule, node.name.span, message, label, *helps)
    value = check.value(node.by, scope)
    if isinstance(value, Failed):
        return None
    if not rule.rankings:
        message = f"`{rule.name}` takes no ranking"
        help = _clause("by", node, node.by)
        return _wrong(check, rule, node.by.span, message, "not needed", help)
    if isinstance(value, Made) and value.name in rule.rankings:
        return (ranking(value, node.by.span),)
    what = f"`{node.by.span.text}`" if isinstance(value, Made) else noun(value)
    message = f"`{rule.name}` cannot choose what it keeps by {what}"
    notes = (f"it takes {rule.ranked}",)
    label = "a ranking of another kind" if noun(value) == "a ranking" else "not a ranking"
    if rule.asks == "scales":
        message, label = f"`{rule.name}` cannot be scaled by {what}", "no scales"
    data = value.entity("data") if isinstance(value, Made) else None
    helps = _ranked(rule, scope, node.by.span, data or only(scope.module, "dataset"))
    check.error(catalog.E0302, message, node.by.span, label, notes=notes, helps=helps)
    return None


def ranking(value: Made, span: Span) -> ir.Ranking:
    """What a ranking, or scales, are made by."""
    criterion = value.text("criterion") or value.text("method")
    return ir.Ranking(span, criterion or value.name.removesuffix("_scales"), value.entity("data"))


def _init(
    check: Check, node: ast.Edit, rule: EditRule, scope: Scope
) -> tuple[str, str | None] | tuple[()] | None:
    """Initialiser and its dataset, `()` when the edit has none, `None` after a report."""
    if node.init is None:
        return (rule.inits[0], None) if rule.inits and rule.ready else ()
    value = check.value(node.init, scope)
    if isinstance(value, Failed):
        return None
    if not rule.inits:
        message = f"`{rule.name}` takes no initialiser"
        help = _clause("init", node, node.init)
        return _wrong(check, rule, node.init.span, message, "not needed", help)
    if isinstance(value, Made) and value.type == "init" and value.name in rule.inits:
        return (value.name, value.entity("data"))
    text = node.init.span.text
    message = f"`{rule.name}` cannot be initialised by `{text}`"
    helps = one_of(node.init.span, rule.inits)
    notes = (f"it takes {quoted(rule.inits, 'or')}",)
    check.error(catalog.E0302, message, node.init.span, "does not fit", notes=notes, helps=helps)
    return None
