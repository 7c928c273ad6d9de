"""Text -> findings: parse, check, expand where the parent is at hand, and let every rule look.

In: a `Source` and `Options`. Out: `Linted`: what is visible, at the levels of the project. Fetches,
hashes and measures nothing, prints nothing and keeps nothing between calls. A parent that is not on
this machine is no finding: the rules that look at it are skipped, and `Linted.skipped` says why.
A file of definitions alone is one to import, so it needs neither model nor objective.

The steps are apart for those who keep parts of them, such as an editor: `read` a text, `surround`
it with its parent, `conclude`; `lint` is all three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from surgery import catalog, evaluate, rules, suppress
from surgery.diagnostics import Diagnostic, Sink, Stop
from surgery.grammar.parse import parse
from surgery.ir import Measured, Model, Space, Spec
from surgery.linting.levels import Levels
from surgery.passes import check, expand, fit, resolve
from surgery.rules import Rule, Subject
from surgery.rules.unused_name import exporting
from surgery.source import Source

MOST = 100
"""Findings of one rule: when these have been mended, there may be more."""

_T = TypeVar("_T")


class Options(Struct, frozen=True):
    """Inputs from `--set`, where imported models and measurements are kept, levels of lints.

    Without a `library`, nothing is looked up. `texts` stand for files that an editor has open.
    """

    cache: Path
    library: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    levels: Levels = Levels()
    texts: Mapping[str, str] = field(default_factory=dict[str, str])


class Linted(Struct, frozen=True):
    """The findings in order, what they are about, and why rules were skipped (or empty)."""

    subject: Subject
    findings: tuple[Diagnostic, ...]
    skipped: str = ""


def lint(source: Source, options: Options) -> Linted:
    """Everything that can be said about a text without measuring."""
    sink = Sink()
    subject = read(source, sink, options.settings, options.texts)
    if subject.spec is None:
        return Linted(subject, conclude(subject, sink.found, options.levels))
    model, skipped = parent(subject.spec, options.cache)
    if model is not None:
        subject = surround(subject, model, sink, options.library)
    return Linted(subject, conclude(subject, sink.found, options.levels), skipped)


# ---- the steps -------------------------------------------------------------------------------


def read(
    source: Source,
    sink: Sink,
    settings: Mapping[str, str] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Subject:
    """The tree of a text, and its spec if it has no mistakes; those go to the sink."""
    tree = parse(source, sink)
    spec = check.run(tree, sink, settings or {}, texts)
    if exporting(tree):
        sink.found[:] = [d for d in sink.found if d.code not in (catalog.E0209, catalog.E0504)]
    if spec is not None:
        expand.warn_not_yet(spec, sink)
    return Subject(tree, spec)


def parent(spec: Spec, cache: Path) -> tuple[Model | None, str]:
    """The parent if it is at hand; otherwise why it is not."""
    model = resolve.glance(spec, cache)
    if model is not None:
        return model, ""
    where = f"{spec.model.kind}({spec.model.location})"
    return None, f"the model `{spec.model.name}` is not at hand: {where}"


def surround(subject: Subject, model: Model, sink: Sink, library: Path | None = None) -> Subject:
    """The subject with its parent, the space that its choices make, and what is measured of it.

    Findings about the parent go to the sink: expectations that do not hold, lengths, layers,
    widths.
    """
    spec = subject.spec
    if spec is None:
        return replace(subject, model=model)
    space = _stopping(lambda: _space(spec, model, sink), sink)
    measured: Measured | None = None
    if space is not None and library is not None and library.is_dir():
        measured = _measured(spec, space, library)
    return replace(subject, model=model, space=space, measured=measured)


def conclude(
    subject: Subject, found: Iterable[Diagnostic], levels: Levels
) -> tuple[Diagnostic, ...]:
    """`found` and what the rules find, less what the text and the project allow, in order."""
    sink = Sink(list(found))
    for rule in rules.RULES:
        sink.extend(islice(rule.check(subject), MOST))
    source = subject.tree.span.source
    sink.extend(islice(suppress.mistakes(source), MOST))
    if subject.spec is not None or not sink.failed:
        sink.extend(suppress.unused(source, tuple(sink.found), _judged(subject)))
    return Sink(list(levels.apply(suppress.visible(sink.found)))).sorted()


# ---- parts -----------------------------------------------------------------------------------


def _stopping(work: Callable[[], _T | None], sink: Sink) -> _T | None:
    try:
        return work()
    except Stop as stop:
        sink.report(stop.diagnostic)
        return None


def _space(spec: Spec, model: Model, sink: Sink) -> Space | None:
    evaluate.expects(spec, model, sink)
    fit.run(spec, model, sink)
    return expand.run(spec, model, sink)


def _measured(spec: Spec, space: Space, library: Path) -> Measured | None:
    # Loaded only where there is a library: rankings and scores are half of the compiler.
    from surgery.library import Library
    from surgery.passes import recall

    return _stopping(lambda: recall.run(spec, space, Library(library)), Sink())


_FROM_CHECK = (catalog.W0011, catalog.W0719)
_FROM_EXPAND = (catalog.W0701, catalog.W0707)


def _judged(subject: Subject) -> frozenset[str]:
    """The lints that would have been found; of the others, nothing is known."""
    looked: list[Rule] = [*rules.FROM_TREE]
    codes = {catalog.W0719.id}
    if subject.spec is not None:
        looked += rules.FROM_SPEC
        codes |= {code.id for code in _FROM_CHECK}
    # Where a back end is missing, rules about the whole space keep silent.
    if subject.space is not None and subject.spec is not None and not subject.spec.not_yet:
        looked += rules.FROM_MODEL
        codes |= {code.id for code in _FROM_EXPAND}
    codes |= {rule.code.id for rule in looked}
    unsure = {rule.code.id for rule in rules.RULES if rule not in looked}
    return frozenset(codes - unsure)
