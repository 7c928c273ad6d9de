"""Diagnostics as data: what is wrong, where, why, and what to do.

In: findings of the passes. Out: frozen `Diagnostic` values in a `Sink`. A pass reports to a sink
and returns `None` for what it could not build; it never prints. Codes live in `catalog.py`,
text output in `render.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum, StrEnum

from msgspec import Struct, field

from surgery.source import Span


class Severity(IntEnum):
    """How much a finding matters; an error stops the pipeline after its pass."""

    ERROR = 0
    WARNING = 1
    NOTE = 2

    @property
    def word(self) -> str:
        """The lower-case word that reports print."""
        return self.name.lower()


class Safety(StrEnum):
    """How sure we are of a fix, in ruff's three levels."""

    SAFE = "safe"
    """Keeps the meaning, or is certainly what was meant."""
    UNSAFE = "unsafe"
    """Probably what was meant; may change the meaning."""
    DISPLAY = "display"
    """One of several ways out: shown, never applied."""


class Code(Struct, frozen=True):
    """One entry of the catalogue.

    `fix` promises that every finding of this code carries a fix of (at least) this safety; `None`
    promises nothing. `tests/book` holds every promise to account.
    """

    id: str
    name: str
    severity: Severity
    summary: str
    fix: Safety | None = None


class Label(Struct, frozen=True):
    """A marked span. The primary one says what is wrong here, the others why."""

    span: Span
    text: str = ""
    primary: bool = False


class Edit(Struct, frozen=True):
    """Replace the characters of `span` by `text`."""

    span: Span
    text: str


class Fix(Struct, frozen=True):
    """Edits that remove the finding: sorted, not overlapping."""

    edits: tuple[Edit, ...]
    safety: Safety


class Help(Struct, frozen=True):
    """Something the user can do, perhaps with a fix that does it."""

    text: str
    fix: Fix | None = None


class Diagnostic(Struct, frozen=True):
    """One finding.

    `message` is lower case, has no full stop and stands alone in a one-line format. `labels` has
    exactly one primary label when the finding lies in a spec, and none when it is about a file
    that is no spec (a shard, a directory): then `subject` names that thing.
    """

    code: Code
    message: str
    labels: tuple[Label, ...] = ()
    subject: str | None = None
    values: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    helps: tuple[Help, ...] = ()

    @property
    def primary(self) -> Label | None:
        """The label that says what is wrong, if the finding lies in a spec."""
        return next((label for label in self.labels if label.primary), None)

    @property
    def severity(self) -> Severity:
        """The severity of the catalogue entry."""
        return self.code.severity

    def sort_key(self) -> tuple[str, int, int, str, str]:
        """Order of presentation: file, position, severity, code."""
        label = self.primary
        name = label.span.source.name if label else self.subject or ""
        start = label.span.start if label else -1
        return (name, start, int(self.severity), self.code.id, self.message)


class Sink(Struct):
    """Where passes report. One sink serves a whole run; equal findings count once.

    `judge` may drop a finding (`None`) or change it, before anybody counts it: what a spec allows
    and what a project denies.
    """

    found: list[Diagnostic] = field(default_factory=list[Diagnostic])
    judge: Callable[[Diagnostic], Diagnostic | None] | None = None
    _seen: set[Diagnostic] = field(default_factory=set[Diagnostic])

    def report(self, diagnostic: Diagnostic) -> None:
        """Keep a finding, as far as the judge lets it."""
        judged = self.judge(diagnostic) if self.judge else diagnostic
        if judged is not None:
            self._keep(judged)

    def _keep(self, diagnostic: Diagnostic) -> None:
        if len(self._seen) != len(self.found):
            # Whoever tries something out takes back what it found.
            self._seen = set(self.found)
        if diagnostic not in self._seen:
            self._seen.add(diagnostic)
            self.found.append(diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Keep several findings."""
        for diagnostic in diagnostics:
            self.report(diagnostic)

    @property
    def failed(self) -> bool:
        """Whether an error was reported."""
        return any(d.severity is Severity.ERROR for d in self.found)

    def sorted(self) -> tuple[Diagnostic, ...]:
        """All findings in order of presentation."""
        return tuple(sorted(self.found, key=Diagnostic.sort_key))


class Stop(Exception):
    """Raised by code that cannot return `None`, carrying the finding that explains why.

    The pipeline catches it at the pass boundary and reports the diagnostic: it is control flow
    for user mistakes found deep inside a pass, never a bug report.
    """

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(f"{diagnostic.code.id}: {diagnostic.message}")
        self.diagnostic: Diagnostic = diagnostic
