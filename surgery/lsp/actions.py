"""Code actions: every fix of a finding, and a few ways of writing a spec better.

In: an analysis, a range, what kinds are wanted. Out: actions with their edits. `source.fixAll` is
`surgery lint --fix` of the document. Fixes are those of the findings; a safe one is preferred, and
what is for display only is offered too, because here a person picks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lsprotocol import types

from surgery import suppress
from surgery.diagnostics import Diagnostic, Fix, Safety, Sink
from surgery.formatting import minimal_edits
from surgery.linting import fixing, run
from surgery.lsp.analysis import Analysis
from surgery.lsp.edits import Change, of_fix, of_replacements, workspace_edit
from surgery.lsp.publish import diagnostic, findings
from surgery.lsp.refactor import rewrites
from surgery.lsp.workspace import Workspace
from surgery.source import Source

_KIND = types.CodeActionKind
KINDS = (_KIND.QuickFix, _KIND.RefactorExtract, _KIND.RefactorRewrite, _KIND.SourceFixAll)


def code_actions(
    workspace: Workspace,
    uri: str,
    range: types.Range,
    only: Sequence[types.CodeActionKind | str] | None,
) -> list[types.CodeAction]:
    """The answer to `textDocument/codeAction`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return []
    start, end = analysis.document.places.offsets(range)
    found: list[types.CodeAction] = []
    if _wanted(_KIND.QuickFix, only):
        for each in findings(workspace, analysis):
            if _touches(analysis, each, start, end):
                found += _fixes(workspace, analysis, each)
    for kind, title, changes in rewrites(workspace, analysis, start, end):
        if _wanted(kind, only):
            found += _action(workspace, kind, title, changes)
    # Of the whole document: only for who asks for it by name.
    if only and _wanted(_KIND.SourceFixAll, only):
        found += _fix_all(workspace, analysis)
    return found


def _wanted(kind: types.CodeActionKind, only: Sequence[types.CodeActionKind | str] | None) -> bool:
    """Whether a kind, or one that contains it, was asked for."""
    if not only:
        return True
    for each in only:
        asked = each.value if isinstance(each, types.CodeActionKind) else each
        if not asked or kind.value == asked or kind.value.startswith(f"{asked}."):
            return True
    return False


def _touches(analysis: Analysis, found: Diagnostic, start: int, end: int) -> bool:
    primary = found.primary
    if primary is None or primary.span.source != analysis.source:
        return primary is None and start == 0
    return primary.span.start <= end and start <= primary.span.end


def _action(
    workspace: Workspace,
    kind: types.CodeActionKind,
    title: str,
    changes: Sequence[Change],
    *,
    preferred: bool = False,
    of: types.Diagnostic | None = None,
) -> Iterator[types.CodeAction]:
    edit = workspace_edit(workspace, changes)
    if edit is not None:
        yield types.CodeAction(
            title=title,
            kind=kind,
            diagnostics=[of] if of is not None else None,
            is_preferred=preferred or None,
            edit=edit,
        )


# ---- findings --------------------------------------------------------------------------------


def _fixes(
    workspace: Workspace, analysis: Analysis, found: Diagnostic
) -> Iterator[types.CodeAction]:
    shown = diagnostic(workspace, analysis, found)
    safe = [each.fix for each in found.helps if each.fix and each.fix.safety is Safety.SAFE]
    for each in found.helps:
        if each.fix is not None and _editable(each.fix):
            preferred = safe == [each.fix]
            title = each.text[:1].upper() + each.text[1:]
            yield from _action(
                workspace, _KIND.QuickFix, title, of_fix(each.fix.edits),
                preferred=preferred, of=shown,
            )  # fmt: skip
    if suppress.is_lint(found.code) and found.primary is not None:
        change = _allow(found.primary.span.source, found)
        title = f"Allow {found.code.name} here"
        yield from _action(workspace, _KIND.QuickFix, title, (change,), of=shown)


def _editable(fix: Fix) -> bool:
    """Standard files come with the package and stay as they are."""
    return not any(edit.span.source.name.startswith("std/") for edit in fix.edits)


def _allow(source: Source, found: Diagnostic) -> Change:
    """Add the lint to the directive of its line, or write one above the line."""
    assert found.primary is not None
    offset = found.primary.span.start
    line = source.position(offset).line
    for directive in suppress.directives(source):
        if directive.line == line and directive.names:
            end = directive.names[-1].span.end
            return Change(source, end, end, f", {found.code.name}")
    start = source.text.rfind("\n", 0, offset) + 1
    written = source.text[start:offset]
    indent = written[: len(written) - len(written.lstrip())]
    text = f"{indent}# surg: allow({found.code.name})\n"
    return Change(source, start, start, text)


def _fix_all(workspace: Workspace, analysis: Analysis) -> Iterator[types.CodeAction]:
    """All safe fixes, round by round, as one edit."""
    if analysis.source.name.startswith("std/"):
        return

    def find(source: Source) -> Sequence[Diagnostic]:
        sink = Sink()
        subject = run.read(source, sink, texts=analysis.texts)
        return run.conclude(subject, sink.found, analysis.levels)

    fixed = fixing.fix(analysis.source, find)
    if fixed.changed:
        edits = minimal_edits(analysis.source.text, fixed.source.text)
        changes = of_replacements(analysis.source, edits)
        yield from _action(workspace, _KIND.SourceFixAll, "Fix everything that is safe", changes)
