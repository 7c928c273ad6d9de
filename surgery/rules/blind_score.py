"""W0715: one of several scores cannot see an edit. E0705: none of the objective's can.

In: the spec and its space. Out: what `passes/score.py` would say before it measures.
"""

from __future__ import annotations

from collections.abc import Iterable

from surgery import catalog
from surgery.diagnostics import Diagnostic
from surgery.rules.rule import Rule, Subject
from surgery.scoring.blind import findings


def check(subject: Subject) -> Iterable[Diagnostic]:
    """One finding per window and score."""
    if subject.spec is None or subject.space is None:
        return ()
    return findings(subject.spec, subject.space)


RULE = Rule(catalog.W0715, check)
