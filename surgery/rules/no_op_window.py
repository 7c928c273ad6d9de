"""W0703: a window that no sequence of a scenario outgrows.

In: the spec. Out: one finding per window and scenario that something is asked of, or one for all
of these where none is longer. A window of n tokens forgets from token n + 1 on, the current one
included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.edits.attention import WINDOWS
from surgery.expr import Metric
from surgery.ir import Alternative, Requirement, Scenario, Site, Spec
from surgery.rules.rule import Rule, Subject
from surgery.units import format_tokens


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding per window that saves nothing somewhere."""
    spec = subject.spec
    if spec is None:
        return
    scenarios = subject.asked
    asking = _asking(subject)
    for window, size in _windows(spec):
        idle = [s for s in scenarios if s.longest <= size]
        if len(idle) > 1 and len(idle) == len(scenarios):
            yield _nowhere(window, size, idle)
            continue
        for scenario in idle:
            by = asking.get(scenario.name, ())
            yield _here(spec, window, size, scenario, by, alone=len(scenarios) == 1)


def _windows(spec: Spec) -> Iterator[tuple[Alternative, int]]:
    for choice in spec.choices:
        for alternative in choice.alternatives:
            if alternative.edit in WINDOWS and alternative.value is not None:
                yield alternative, _held(alternative)


def _held(window: Alternative) -> int:
    """The tokens that a window holds at most."""
    return int(window.value or 0) + WINDOWS[window.edit]


def _reason(scenario: Scenario, size: int) -> str:
    if scenario.trace is not None:
        longest, of = format_tokens(scenario.longest), format_tokens(size)
        return f"no request of {longest} tok or less exceeds {of} tok"
    prefill, decode = format_tokens(scenario.prefill), format_tokens(scenario.decode)
    return f"{prefill} tok + {decode} tok never exceeds {format_tokens(size)} tok"


def _nowhere(window: Alternative, size: int, idle: Sequence[Scenario]) -> Diagnostic:
    longest = max(s.longest for s in idle)
    labels = (Label(window.span, "the window", primary=True),)
    labels += tuple(Label(s.span, _reason(s, size)) for s in idle)
    help = Help(f"use a window below {format_tokens(longest)} tok, or remove it")
    message = f"a window of {format_tokens(size)} tok saves nothing in any scenario"
    return Diagnostic(catalog.W0703, message, labels, helps=(help,))


def _here(
    spec: Spec,
    window: Alternative,
    size: int,
    scenario: Scenario,
    asking: Sequence[Requirement],
    *,
    alone: bool,
) -> Diagnostic:
    labels = [
        Label(window.span, "the window", primary=True),
        Label(scenario.span, _reason(scenario, size)),
    ]
    others = _others(spec, scenario)
    only = f"so only {' and '.join(others)} can satisfy this" if others else ""
    text = only or "the window does not help with this"
    labels += [Label(requirement.span, text) for requirement in asking]
    helps: tuple[Help, ...] = ()
    if alone:
        longest = format_tokens(scenario.longest)
        helps = (Help(f"use a window below {longest} tok, or remove it"),)
    message = f"a window of {format_tokens(size)} tok saves nothing in the scenario "
    return Diagnostic(catalog.W0703, message + f"`{scenario.name}`", tuple(labels), helps=helps)


def _asking(subject: Subject) -> dict[str, list[Requirement]]:
    """The requirements that ask for something in a scenario, by its name."""
    found: dict[str, list[Requirement]] = {}
    for each, parts in subject.required:
        metrics = (part for part in parts if isinstance(part, Metric))
        for name in dict.fromkeys(metric.scenario for metric in metrics if metric.scenario):
            found.setdefault(name, []).append(each)
    return found


def _others(spec: Spec, scenario: Scenario) -> list[str]:
    """The sites that can still save something, where no edit of attention can; else nothing."""
    if any(facet.site is Site.ATTENTION for facet in spec.facets):
        return []
    for choice in spec.choices:
        for each in choice.alternatives if choice.site is Site.ATTENTION else ():
            tokens = scenario.longest
            idle = each.edit in WINDOWS and tokens <= _held(each)
            if each.edit != "keep" and not idle:
                return []
    found = {choice.site for choice in spec.choices} - {Site.ATTENTION}
    return [f"`{site}`" for site in Site if site in found]


RULE = Rule(catalog.W0703, check)
