"""Findings -> the diagnostics of the protocol, by document.

In: diagnostics of one analysis. Out: what to show in each document, the imported ones included.
A finding without a place (a file that cannot be read) stands on the first line. What the finding
is (code, name, safety of its fixes) travels in `data`, for `actions.py`. Not here: which version
they are of (`server.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lsprotocol import types

from surgery import catalog
from surgery.diagnostics import Diagnostic, Label, Severity
from surgery.lsp.analysis import Analysis
from surgery.lsp.workspace import Workspace

_SEVERITY = {
    Severity.ERROR: types.DiagnosticSeverity.Error,
    Severity.WARNING: types.DiagnosticSeverity.Warning,
    Severity.NOTE: types.DiagnosticSeverity.Information,
}
_UNNECESSARY = frozenset(
    {catalog.W0201.id, catalog.W0702.id, catalog.W0705.id, catalog.W0707.id, catalog.W0901.id}
)
"""Findings about text that could go; a client may show it faded."""


def findings(workspace: Workspace, analysis: Analysis) -> tuple[Diagnostic, ...]:
    """What there is to say of a version: about its text and, when known, about its parent."""
    known = workspace.known(analysis)
    return analysis.findings if known is None else known.findings


def by_document(
    workspace: Workspace, analysis: Analysis, found: Iterable[Diagnostic]
) -> Mapping[str, tuple[types.Diagnostic, ...]]:
    """Diagnostics by the URI of the document that they lie in; its own is always there."""
    home = analysis.document.uri
    grouped: dict[str, list[types.Diagnostic]] = {home: []}
    for each in found:
        primary = each.primary
        elsewhere = primary is not None and primary.span.source != analysis.source
        uri = (workspace.uri(primary.span.source) if primary and elsewhere else None) or home
        grouped.setdefault(uri, []).append(diagnostic(workspace, analysis, each))
    return {uri: tuple(each) for uri, each in grouped.items()}


def diagnostic(workspace: Workspace, analysis: Analysis, found: Diagnostic) -> types.Diagnostic:
    """One finding as the protocol has it."""
    primary = found.primary
    place = (
        workspace.range(primary.span)
        if primary is not None
        else analysis.document.places.range(0, analysis.document.places.line_end(0))
    )
    return types.Diagnostic(
        range=place,
        message=message(found),
        severity=_SEVERITY[found.severity],
        code=found.code.id,
        source="surgery",
        tags=[types.DiagnosticTag.Unnecessary] if found.code.id in _UNNECESSARY else None,
        related_information=_related(workspace, found) or None,
        data={"code": found.code.id, "name": found.code.name},
    )


def message(found: Diagnostic) -> str:
    """The message with everything that the command line prints around it, but no excerpts."""
    lines = [found.message]
    primary = found.primary
    if primary is not None and primary.text:
        lines.append(primary.text)
    if found.subject is not None:
        lines.append(found.subject)
    lines += [f"{name} is {value}" for name, value in found.values]
    lines += [each.removeprefix("= ") for each in found.notes]
    lines += [f"help: {each.text}" for each in found.helps]
    return "\n".join(dict.fromkeys(lines))


def _related(workspace: Workspace, found: Diagnostic) -> list[types.DiagnosticRelatedInformation]:
    """The places that say why."""
    labels: list[tuple[Label, types.Location | None]] = [
        (each, workspace.location(each.span)) for each in found.labels if not each.primary
    ]
    return [
        types.DiagnosticRelatedInformation(location, label.text or "this is part of it")
        for label, location in labels
        if location is not None
    ]
