"""Selectors, folds and tests: everything that looks at layers one by one.

In: their syntax and a scope. Out: `expr.Selector`s, `expr.Fold`s and `expr.Is`. Reports ranges
that run backwards (E0307), words that a part can never be (E0305), picks that are no layers
(E0302, E0309), and questions to a layer whose answer depends on the whole result (E0502).
"""

from __future__ import annotations

from collections.abc import Mapping

from surgery import affine, catalog, units
from surgery.checking.names import quoted, unknown
from surgery.checking.operands import condition, number
from surgery.checking.repairs import one_of, replacing
from surgery.checking.scope import Check, Scope
from surgery.checking.tables import WORDS
from surgery.checking.values import Failed, Items, Value, is_expr, noun
from surgery.diagnostics import Help, Safety
from surgery.expr import Expr, Fold, Is, LayerSet, Number, Pick, Selector
from surgery.grammar import ast
from surgery.grammar.near import nearest
from surgery.source import Span

_ELSEWHERE: Mapping[str, str] = {
    "sliding": "window",
    "local": "window",
    "windowed": "window",
    "sliding_attention": "window",
    "global": "full",
    "causal": "full",
    "full_attention": "full",
    "identity": "noop",
    "removed": "noop",
    "skipped": "noop",
    "mlp": "dense",
    "sparse": "moe",
}
"""What other tools call these words."""

# ---- selectors -------------------------------------------------------------------------------


def selector(check: Check, node: ast.Selector, scope: Scope) -> Selector | None:
    """A set of layers, or `None` after a report."""
    include = _layer_set(check, node.include, scope)
    excludes = [_layer_set(check, each, scope) for each in node.excludes]
    good = tuple(each for each in excludes if each is not None)
    if include is None or len(good) < len(excludes):
        return None
    return Selector(node.span, include, good)


def _layer_set(check: Check, node: ast.LayerSet, scope: Scope) -> LayerSet | None:
    picks = [_picks(check, check.value(each, scope)) for each in node.picks]
    good = [each for each in picks if each is not None]
    where = None
    if node.where is not None:
        where = layer_condition(check, node.where, scope, "`where`")
        if where is None:
            return None
    if len(good) < len(picks):
        return None
    flat = sorted((p for each in good for p in each), key=lambda p: (p.low < 0, p.low, p.high))
    return LayerSet(node.span, tuple(flat) if node.picks else None, where)


def _picks(check: Check, value: Value) -> tuple[Pick, ...] | None:
    """The layers that one value in `layers[...]` names: a number, a range or a list of these."""
    match value:
        case Failed():
            return None
        case Pick():
            return (value,)
        case Items(items=items):
            found = [_picks(check, item) for item in items]
            good = [each for each in found if each is not None]
            return tuple(p for each in good for p in each) if len(good) == len(found) else None
        case Number(dimension=units.NUMBER) if value.value.denominator == 1 and value.value >= 0:
            return (Pick(value.span, int(value.value), int(value.value)),)
        case Number(dimension=units.NUMBER):
            message = f"there is no layer `{value.span.text}`"
            label = "layers are counted from 0 in whole numbers"
            check.error(catalog.E0309, message, value.span, label, helps=_from_the_end(value))
        case _:
            text = f"`{value.span.text}` does not name layers that are known now"
            label = "depends on the model" if is_expr(value) else f"this is {noun(value)}"
            notes = ("`layers[...]` takes numbers, ranges such as `0..3`, and `last(n)`",)
            check.error(catalog.E0302, text, value.span, label, notes=notes)
    return None


def _from_the_end(value: Number) -> tuple[Help, ...]:
    """`layers[-2]` is `layers[last(2)]`, if only one layer were meant."""
    if value.value >= 0 or value.value.denominator != 1:
        return ()
    text = f"last({-value.value})"
    return (replacing(f"count from the end: `{text}`", value.span, text, Safety.DISPLAY),)


def layer_range(check: Check, node: ast.Range) -> Value:
    """`low..high`, both included."""
    low, high = node.low, node.high
    for end in (low, high):
        if end.unit or end.magnitude or end.value.denominator != 1:
            message = "the ends of a range of layers are plain whole numbers"
            text = end.span.text
            helps = ()
            if end.value.denominator == 1 and not end.magnitude:
                helps = (replacing(f"write `{end.number}`", end.span, end.number),)
            label = f"`{text}` is none"
            return check.error(catalog.E0302, message, end.span, label, helps=helps)
    if low.value > high.value:
        message = f"the range `{node.span.text}` runs backwards"
        text = f"{high.number}..{low.number}"
        helps = (replacing(f"write `{text}`", node.span, text, Safety.SAFE),)
        label = f"{high.number} comes before {low.number}"
        return check.error(catalog.E0307, message, node.span, label, helps=helps)
    return Pick(node.span, int(low.value), int(high.value))


# ---- what is asked of a layer ----------------------------------------------------------------


def layer_condition(check: Check, node: ast.Expr, scope: Scope, where: str) -> Expr | None:
    """A condition on one layer; it may not depend on the choices elsewhere."""
    found = condition(check, node, scope.at_layer(), where)
    return found if found is not None and _local(check, found) else None


def _local(check: Check, value: Expr) -> bool:
    beyond = affine.global_choices(value)
    if not beyond:
        return True
    message = "what is asked of a layer cannot depend on the whole result"
    note = "a layer has `index`, `experts`, `active`, `width`, `heads`, `kv_heads` and `window`"
    check.error(catalog.E0502, message, beyond[0].span, "depends on all choices", notes=(note,))
    return False


def is_test(check: Check, node: ast.Is, scope: Scope) -> Value:
    """`attention is full`."""
    if not isinstance(node.value, ast.Name) or node.value.text not in WORDS:
        text = node.value.span.text
        ident = ast.Ident(node.value.span, text)
        if isinstance(node.value, ast.Name) and nearest(text, WORDS):
            return unknown(check, "part of a layer", ident, WORDS, "`is` tests")
        message = f"`is` tests a part of a layer, and `{text}` is none"
        note = f"the parts are {quoted(WORDS)}"
        helps = one_of(node.value.span, (w for w in WORDS if node.word.text in WORDS[w]))
        label = "cannot be tested"
        return check.error(
            catalog.E0305, message, node.value.span, label, notes=(note,), helps=helps
        )
    site, word = node.value.text, node.word.text
    if word not in WORDS[site]:
        message = f"`{site}` is never `{word}`"
        words = WORDS[site]
        near = nearest(word, words) or tuple(w for w in words if w == _ELSEWHERE.get(word))
        helps = one_of(node.word.span, near or (words if len(words) < 3 else ()))
        note = f"`{site}` can be {quoted(WORDS[site], 'or')}"
        label = "no layer is ever this"
        return check.error(
            catalog.E0305, message, node.word.span, label, notes=(note,), helps=helps
        )
    if not scope.layer:
        message = f"`{node.span.text}` is about a layer, and no layer is at hand here"
        return check.error(
            catalog.E0201, message, node.span, "of which layer", helps=_folded(node.span)
        )
    return Is(node.span, site, word, node.negated)


def _folded(test: Span) -> tuple[Help, ...]:
    """Ways to ask all layers what can be asked of one."""
    folds = (("all layers", f"every(layers: {test.text})"), ("any", f"some(layers: {test.text})"))
    return tuple(
        replacing(f"to ask {what}, write `{text}`", test, text, Safety.DISPLAY)
        for what, text in folds
    )


# ---- folds -----------------------------------------------------------------------------------


def fold(check: Check, node: ast.Fold, scope: Scope) -> Value:
    """`count(layers where ...)` and its like."""
    chosen = selector(check, node.selector, scope)
    body = _body(check, node, scope)
    if chosen is None or isinstance(body, Failed):
        return Failed(node.span)
    dimension = body.dimension if body is not None else units.NUMBER
    return Fold(node.span, node.kind, chosen, body, dimension)


def _body(check: Check, node: ast.Fold, scope: Scope) -> Expr | Failed | None:
    tests = node.kind in ("every", "some", "count")
    if node.body is None:
        if node.kind == "count":
            return None
        example = f"{node.kind}(layers: {'experts >= 8' if tests else 'experts'})"
        message = f"`{node.kind}` needs to know what of each layer"
        helps = (replacing(f"write it as in `{example}`", node.span, example, Safety.DISPLAY),)
        return check.error(catalog.E0303, message, node.span, "no `:` and body", helps=helps)
    if tests:
        return layer_condition(check, node.body, scope, f"`{node.kind}`") or Failed(node.span)
    found = number(check, node.body, scope.at_layer())
    return found if found is not None and _local(check, found) else Failed(node.span)
