"""W0710 scattered-acts: statements of one act are spread over the file.

A spec has acts: the world, the edits, the wishes, the afterwards. Their order is free; coming back
to one makes a reader search. Names, models, inputs and expectations may stand anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.checking.names import quoted
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject

_ACTS: dict[str, tuple[type[ast.Statement], ...]] = {
    "the world": (ast.Machine, ast.Scenario, ast.Dataset, ast.Score),
    "the edits": (ast.Apply, ast.Choose),
    "the wishes": (ast.Require, ast.Objective),
    "the afterwards": (ast.Recover, ast.Emit),
}


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every act that is taken up again, where that happens first."""
    last: dict[str, ast.Item] = {}
    told: set[str] = set()
    current = ""
    for item in subject.tree.items:
        act = _act(item)
        if not act:
            continue
        if act != current and act in last and act not in told:
            told.add(act)
            yield _again(act, item, last[act], last[current])
        last[act], current = item, act


def _act(item: ast.Item) -> str:
    return next((act for act, kinds in _ACTS.items() if isinstance(item, kinds)), "")


def _again(act: str, item: ast.Item, before: ast.Item, between: ast.Item) -> Diagnostic:
    words = [kind.__name__.lower() for kind in _ACTS[act]]
    words = ["minimize" if word == "objective" else word for word in words]
    labels = (
        Label(item.head, f"back to {act}", primary=True),
        Label(before.head, f"{act} stood here"),
        Label(between.head, f"and {_act(between)} came between"),
    )
    return Diagnostic(
        catalog.W0710,
        f"{act} of this spec are told in two places"
        if act != "the world"
        else "the world of this spec is told in two places",
        labels,
        notes=(f"to {act} belong {quoted(words)}",),
        helps=(Help("bring the statements together"),),
    )


RULE = Rule(catalog.W0710, check)
