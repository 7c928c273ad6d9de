"""W0804 no-recover: more than a fifth of the parameters must go, and nothing wins it back.

Only bounds on `params` count: bytes can also shrink because weights are stored in fewer bits. How
much goes is known when the bound is a share of the parent, or when the parent is at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from surgery import catalog, evaluate
from surgery.diagnostics import Diagnostic, Help, Label, Stop
from surgery.expr import Arith, Compare, Expr, Fact, Logic, Metric, Number
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject
from surgery.units import significant

HEAVY = Fraction(1, 5)


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report the tightest bound when it is a heavy cut."""
    spec = subject.spec
    if spec is None or any(isinstance(item, ast.Recover) for item in subject.tree.items):
        return
    shares = [
        (share, requirement)
        for requirement in spec.requirements
        for limit in _limits(requirement.expr)
        if (share := _share(limit, subject)) is not None and 0 <= share < 1 - HEAVY
    ]
    if not shares:
        return
    share, requirement = min(shares, key=lambda pair: pair[0])
    gone = f"{significant((1 - share) * 100, 3)}%"
    label = Label(requirement.expr.span, f"at least {gone} of the parameters go", primary=True)
    yield Diagnostic(
        catalog.W0804,
        f"{gone} of the parameters are cut, and no `recover` wins back what that costs",
        (label,),
        helps=(
            Help("add `recover { distill { ... } }`, or say that you train the child elsewhere"),
        ),
    )


def _limits(expr: Expr) -> Iterator[Expr]:
    """What `params` of the result may be at most."""
    match expr:
        case Logic(op="and", operands=operands):
            for each in operands:
                yield from _limits(each)
        case Compare(first=first, rest=rest):
            left = first
            for op, right in rest:
                if op in ("<=", "<", "==") and _is_params(left):
                    yield right
                if op in (">=", ">", "==") and _is_params(right):
                    yield left
                left = right
        case _:
            pass


def _is_params(expr: Expr) -> bool:
    return isinstance(expr, Metric) and expr.name == "params" and not expr.parent


def _share(limit: Expr, subject: Subject) -> Fraction | None:
    """A limit as a share of the parent's parameters."""
    match limit:
        case Arith(op="*", left=Number(value=share), right=whole) if _is_parent(whole):
            return share
        case Arith(op="*", left=whole, right=Number(value=share)) if _is_parent(whole):
            return share
        case Arith(op="/", left=whole, right=Number(value=part)) if _is_parent(whole):
            return 1 / part
        case _:
            pass
    if subject.model is None or subject.spec is None:
        return None
    try:
        value = evaluate.number(limit, evaluate.parent_context(subject.spec, subject.model))
    except Stop:
        return None
    return value / subject.model.params


def _is_parent(expr: Expr) -> bool:
    match expr:
        case Fact(name="params") | Metric(name="params", parent=True):
            return True
        case _:
            return False


RULE = Rule(catalog.W0804, check)
