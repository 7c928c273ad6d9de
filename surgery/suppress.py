"""`# surg: allow(name, name)`: the findings that a spec silences itself.

In: diagnostics, whose labels know their sources. Out: those that are left, and findings about the
comments themselves: names that silence nothing (W0901), and comments that begin like a directive
and are none (W0904). Only lints can be allowed, by name or number. A comment at the end of a line
is about that line, one that stands alone about the next line that is no comment. Not here: levels
of a whole project (`linting/levels.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import comments, scan
from surgery.grammar.near import nearest
from surgery.source import Source, Span

_BEGINS = re.compile(r"(?P<marks>#+)[ \t]*surg:[ \t]*")
_ALLOW = re.compile(r"allow[ \t]*\((?P<names>[^()]*)\)")
_NAME = re.compile(r"[^,\s](?:[^,]*[^,\s])?")


class Allowed(Struct, frozen=True):
    """One name in an `allow(...)`; `code` is the lint that it means, if there is one."""

    span: Span
    code: Code | None


class Directive(Struct, frozen=True):
    """One `# surg:` comment: the line that it is about, and what it allows there.

    `problem` says why it means nothing, and is empty when it does. `alone` is whether it has its
    line for itself.
    """

    span: Span
    line: int
    alone: bool
    names: tuple[Allowed, ...]
    problem: str = ""


def lint(text: str) -> Code | None:
    """The lint of this name or number, or `None`: errors cannot be allowed."""
    code = catalog.BY_NAME.get(text) or catalog.BY_ID.get(text)
    return code if code and is_lint(code) else None


def is_lint(code: Code) -> bool:
    """Whether a code can be allowed, whatever level a project gives it."""
    return code.id.startswith("W")


def directives(source: Source) -> tuple[Directive, ...]:
    """Every `# surg:` comment of a text, in order."""
    if "surg:" not in source.text:
        return ()
    found = comments.collect(source, scan.lexemes(source.text))
    below: dict[int, int] = {}
    for line in sorted((each.span.first.line for each in found if not each.trailing), reverse=True):
        below[line] = below.get(line + 1, line + 1)
    return tuple(
        _directive(each.span, start.end(), below)
        for each in found
        if (start := _BEGINS.match(each.span.text))
    )


def _directive(span: Span, body: int, below: Mapping[int, int]) -> Directive:
    """`below` has for each line that is a comment the next one that is none."""
    line = span.first.line
    stands_alone = line in below
    line = below.get(line, line)
    text = span.text[body:]
    match = _ALLOW.match(text)
    names: tuple[Allowed, ...] = ()
    if span.text.startswith("##"):
        problem = "a directive is a comment with one `#`"
    elif match is None:
        problem = "a directive is written `# surg: allow(name, name)`"
    else:
        start = span.start + body + match.start("names")
        names = tuple(_names(span.source, start, match["names"]))
        problem = "" if names else "this allows nothing"
    return Directive(span, line, stands_alone, names, problem)


def _names(source: Source, start: int, text: str) -> Iterator[Allowed]:
    for match in _NAME.finditer(text):
        span = Span(source, start + match.start(), start + match.end())
        yield Allowed(span, lint(match[0]))


# ---- silencing -------------------------------------------------------------------------------


def visible(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The findings that no comment of their source allows, in the order given."""
    allowed: dict[Source, frozenset[tuple[int, str]]] = {}
    left: list[Diagnostic] = []
    for each in found:
        label = each.primary
        if label is None or not is_lint(each.code):
            left.append(each)
            continue
        source = label.span.source
        if source not in allowed:
            allowed[source] = _silenced(source)
        if (label.span.first.line, each.code.id) not in allowed[source]:
            left.append(each)
    return tuple(left)


def _silenced(source: Source) -> frozenset[tuple[int, str]]:
    """The lines of a text and the lints that are allowed there."""
    return frozenset(
        (each.line, name.code.id)
        for each in directives(source)
        for name in each.names
        if name.code is not None
    )


# ---- findings about directives ---------------------------------------------------------------


def unused(
    source: Source, found: Iterable[Diagnostic], judged: Collection[str]
) -> Iterator[Diagnostic]:
    """W0901 for what silences nothing of `found`, which are all findings before `visible`.

    `judged` are the codes that this run looked for: of the others nothing is known.
    """
    present = {
        (label.span.first.line, each.code.id)
        for each in found
        if (label := each.primary) and label.span.source == source
    }
    for each in directives(source):
        idle = tuple(
            name
            for name in each.names
            if name.code and name.code.id in judged and (each.line, name.code.id) not in present
        )
        if idle:
            yield _unused(each, idle)


def _unused(directive: Directive, idle: tuple[Allowed, ...]) -> Diagnostic:
    listed = " and ".join(f"`{name.span.text}`" for name in idle)
    whole = len(idle) == len(directive.names)
    edits = (removal(directive) if whole else _without(directive, idle),)
    text = "remove the comment" if whole else f"remove {listed}"
    span = directive.span if whole else idle[0].span
    label = Label(span, "nothing to silence on that line", primary=True)
    message = f"nothing here needs `allow({', '.join(name.span.text for name in idle)})`"
    helps = (Help(text, Fix(edits, Safety.SAFE)),)
    return Diagnostic(catalog.W0901, message, (label,), helps=helps)


def removal(directive: Directive) -> Edit:
    """Take the comment away: with its line where it stands alone, else with the blanks before."""
    source, start, end = directive.span.source, directive.span.start, directive.span.end
    text = source.text
    while start > 0 and text[start - 1] in " \t":
        start -= 1
    if directive.alone:
        if text[end : end + 2] == "\r\n":
            end += 2
        elif text[end : end + 1] == "\n":
            end += 1
    return Edit(Span(source, start, end), "")


def _without(directive: Directive, idle: tuple[Allowed, ...]) -> Edit:
    """Take some of several names out of the list."""
    first, last = directive.names[0].span, directive.names[-1].span
    left = ", ".join(name.span.text for name in directive.names if name not in idle)
    return Edit(first.to(last), left)


def mistakes(source: Source) -> Iterator[Diagnostic]:
    """W0904 for every directive that cannot be read, and every name in one that is no lint."""
    for each in directives(source):
        if each.problem:
            label = Label(each.span, each.problem, primary=True)
            message = "this comment begins like a directive and means nothing"
            helps = (Help("silence a lint with `# surg: allow(name)`"),)
            yield Diagnostic(catalog.W0904, message, (label,), helps=helps)
        for name in each.names:
            if name.code is None:
                yield _unknown(name)


def _unknown(name: Allowed) -> Diagnostic:
    text = name.span.text
    other = catalog.BY_NAME.get(text) or catalog.BY_ID.get(text)
    if other is not None:
        label = Label(name.span, "an error", primary=True)
        message = f"`{text}` is an error, and only lints can be allowed"
        return Diagnostic(catalog.W0904, message, (label,))
    lints = [code for code in catalog.BY_ID.values() if is_lint(code)]
    names = (*(code.name for code in lints), *(code.id for code in lints))
    helps = tuple(
        Help(f"allow `{near}`", Fix((Edit(name.span, near),), Safety.UNSAFE))
        for near in nearest(text, names)
    )
    label = Label(name.span, "unknown", primary=True)
    notes = () if helps else ("`surgery explain` lists all lints",)
    message = f"there is no lint `{text}`"
    return Diagnostic(catalog.W0904, message, (label,), notes=notes, helps=helps)
