"""One version of a document, looked at: its tree, its meaning and its findings.

In: a document and the texts of the other open ones. Out: an `Analysis`, whose findings are those
of `surgery lint` on the same text without a parent. Not here: what needs one (`parents.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property

from msgspec import Struct

from surgery.checking.modules import Module, load
from surgery.diagnostics import Diagnostic, Sink
from surgery.grammar import ast, scan
from surgery.grammar.scan import Chunk, Lexeme
from surgery.ir import Spec
from surgery.linting import levels, run
from surgery.linting.levels import Levels
from surgery.lsp.ask import Asker
from surgery.lsp.documents import Document, name_of
from surgery.lsp.occurrences import Occurrence, occurrences
from surgery.rules.rule import Subject
from surgery.source import Source


class Analysis(Struct, frozen=True, dict=True, eq=False):
    """What is known of one version without its parent.

    `said` are the findings before rules and levels, for whoever looks further. `texts` are the
    open documents by path. Everything that takes time is done when it is first asked for.
    """

    document: Document
    source: Source
    subject: Subject
    levels: Levels
    said: tuple[Diagnostic, ...]
    texts: Mapping[str, str]

    @property
    def tree(self) -> ast.Spec:
        """What was written."""
        return self.subject.tree

    @property
    def spec(self) -> Spec | None:
        """What it means, if it has no mistakes."""
        return self.subject.spec

    @cached_property
    def findings(self) -> tuple[Diagnostic, ...]:
        """What there is to show."""
        return run.conclude(self.subject, self.said, self.levels)

    @cached_property
    def lexemes(self) -> tuple[Lexeme, ...]:
        """Everything in the text that is not blank."""
        return scan.lexemes(self.source.text, 1 if self.source.text.startswith("\ufeff") else 0)

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """The statements, parsed or not."""
        return scan.chunks(self.source.text, self.lexemes)

    @cached_property
    def module(self) -> Module:
        """The file with what it imports."""
        return load(self.tree, Sink(), self.texts)

    @cached_property
    def ask(self) -> Asker:
        """For questions about single places."""
        return Asker(self.module)

    @cached_property
    def occurrences(self) -> tuple[Occurrence, ...]:
        """Where names stand."""
        return occurrences(self.module)

    @cached_property
    def imported(self) -> frozenset[str]:
        """Names of the sources that the file imports, directly or not."""
        paths = [item.path.value for item in self.tree.items if isinstance(item, ast.Import)]
        if all(path.startswith("std/") for path in paths):
            # Those import nothing, and need not be read to be known.
            return frozenset(paths)
        return frozenset(module.source.name for module in below(self.module))

    def occurrence(self, offset: int) -> Occurrence | None:
        """The name at an offset; one that begins there before one that ends there."""
        touching = [o for o in self.occurrences if o.first <= offset <= o.span.end]
        return max(touching, key=lambda each: each.span.start, default=None)

    def item_at(self, offset: int) -> ast.Item | None:
        """The statement that contains an offset."""
        return next((i for i in self.tree.items if i.span.start <= offset <= i.span.end), None)


def below(module: Module) -> Iterator[Module]:
    """Everything that a module imports, each once."""
    seen: set[str] = {module.source.name}
    waiting = list(module.imports.values())
    while waiting:
        each = waiting.pop()
        if each.source.name not in seen:
            seen.add(each.source.name)
            waiting += each.imports.values()
            yield each


def analyse(document: Document, texts: Mapping[str, str]) -> Analysis:
    """Look at a document."""
    source = Source(name_of(document.uri), document.text)
    sink = Sink()
    on_disk = os.path.isabs(source.name)
    project = levels.of(source.name, sink) if on_disk else Levels()
    subject = run.read(source, sink, texts=texts)
    return Analysis(document, source, subject, project, tuple(sink.found), texts)


def beside(document: Document, suffix: str) -> str | None:
    """The path of a file of the same name with another suffix, when the document is a file."""
    name = name_of(document.uri)
    return os.path.splitext(name)[0] + suffix if os.path.isabs(name) else None
