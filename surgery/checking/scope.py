"""What one run of the check knows, and where an expression is being looked at.

In: the sink and the settings of a run. Out: `Check`, which every module of the check reports to
and asks for names, and `Scope`. The two callbacks tie together modules that need each other:
names are defined by expressions, and expressions use names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from surgery.checking.modules import Module, Named
from surgery.checking.values import Entity, EntityType, Failed, Value
from surgery.diagnostics import Code, Diagnostic, Help, Label, Sink, Stop
from surgery.grammar import ast
from surgery.ir import NotYet
from surgery.source import Span

MAX_ERRORS = 50
"""Errors after which the rest is not looked at."""


class Scope(Struct, frozen=True):
    """Where names are looked up: a file, the parameters of a function, perhaps a layer."""

    module: Module
    locals: Mapping[str, Value] = field(default_factory=dict[str, Value])
    layer: bool = False

    def at_layer(self) -> Scope:
        """The same place inside `layers where ...` or the body of a fold."""
        return replace(self, layer=True)


class Check(Struct):
    """State of one run: findings, names worked out so far, and what has no back end yet.

    `entities` are the declared things met so far in any file, by type and name. `meaning` is what
    the digest must cover although `Spec` has no place for it. `work` counts expressions looked at,
    `price` what each definition took.
    """

    sink: Sink
    settings: Mapping[str, str]
    main: Module
    elaborate: Callable[[Check, ast.Expr, Scope], Value]
    define: Callable[[Check, Module, Named], Value]
    values: dict[tuple[str, str], Value] = field(default_factory=dict[tuple[str, str], Value])
    active: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    entities: dict[tuple[EntityType, str], Entity] = field(
        default_factory=dict[tuple[EntityType, str], Entity]
    )
    not_yet: dict[NotYet, None] = field(default_factory=dict[NotYet, None])
    meaning: list[object] = field(default_factory=list[object])
    work: int = 0
    errors: int = 0
    price: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def value(self, node: ast.Expr, scope: Scope) -> Value:
        """What an expression means."""
        return self.elaborate(self, node, scope)

    def later(self, span: Span, what: str) -> None:
        """Note a statement or expression that has no back end yet."""
        self.not_yet[NotYet(span, what)] = None

    def error(
        self,
        code: Code,
        message: str,
        span: Span,
        label: str = "",
        *also: Label,
        notes: tuple[str, ...] = (),
        helps: tuple[Help, ...] = (),
    ) -> Failed:
        """Report a mistake; returns what it leaves in place of a value."""
        labels = (Label(span, label, primary=True), *also)
        self.report(Diagnostic(code, message, labels, notes=notes, helps=helps))
        return Failed(span)

    def report(self, diagnostic: Diagnostic) -> None:
        """Report a mistake that has been put into words; the last one of many ends the check."""
        self.errors += 1
        if self.errors > MAX_ERRORS:
            raise Stop(diagnostic)
        self.sink.report(diagnostic)
