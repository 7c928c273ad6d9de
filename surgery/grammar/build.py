"""Branches of the grammar -> statements.

In: the `Branch` of a text without syntax errors. Out: `ast` items. Reports what the grammar
accepts and the language does not: names that are reserved words (E0107), a `choose` without
an alternative (E0105) and a clause given twice (E0202).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from surgery import catalog
from surgery.diagnostics import Diagnostic, Label, Sink
from surgery.grammar import ast, name_errors
from surgery.grammar.build_expressions import ExpressionBuilder, branch, leaf
from surgery.grammar.comments import Docs
from surgery.grammar.front import Branch, Part
from surgery.grammar.scan import RESERVED, Lexeme
from surgery.source import Source, Span


class _Common(TypedDict):
    head: Span
    doc: str


class StatementBuilder(ExpressionBuilder):
    """Builds the statements of one source."""

    def __init__(self, source: Source, sink: Sink, docs: Docs) -> None:
        super().__init__(source, sink)
        self.docs: Docs = docs
        self._statements: dict[str, Callable[[Branch], ast.Item]] = {
            "import": self._import,
            "model": self._model,
            "input": self._input,
            "let": self._let,
            "fn": self._fn,
            "machine": self._machine,
            "scenario": self._scenario,
            "dataset": self._dataset,
            "score": self._score,
            "apply": self._apply,
            "choose": self._choose,
            "expect": self._expect,
            "require": self._require,
            "minimize": self._objective,
            "maximize": self._objective,
            "recover": self._recover,
            "emit": self._emit,
        }

    def items(self, found: Branch) -> tuple[ast.Item, ...]:
        """The statements of a text; editions are checked by the parser and left out."""
        parts = (branch(part) for part in found.parts)
        return tuple(self._statements[p.rule](p) for p in parts if p.rule != "edition")

    def _common(self, found: Branch, last: Part | None = None) -> _Common:
        """Head and doc; without a name, the head is the keyword alone."""
        end = last.end if last else found.start + len(found.rule)
        return {
            "head": Span(self.source, found.start, end),
            "doc": self.docs.above(found.start),
        }

    def _defined(self, part: Part) -> ast.Ident:
        """The name of something that the spec defines."""
        name = self.ident(part)
        if name.text in RESERVED:
            self.sink.report(name_errors.reserved(name.span))
        return name

    def _fields(self, parts: list[Part]) -> tuple[ast.Field, ...]:
        """The fields of the block, if there is one."""
        return tuple(self._field(branch(p)) for part in parts for p in branch(part).parts)

    def _field(self, found: Branch) -> ast.Field:
        name, value = found.parts
        return ast.Field(self.span(found), self.ident(name), self.expr(value))

    # ---- names -------------------------------------------------------------------------------

    def _import(self, found: Branch) -> ast.Import:
        text, name = found.parts
        path = ast.Str(self.span(text), leaf(text).text[1:-1])
        return ast.Import(self.span(found), path, self._defined(name), **self._common(found, text))

    def _model(self, found: Branch) -> ast.Model:
        name, call, *block = found.parts
        return ast.Model(
            self.span(found),
            self._defined(name),
            self.call(branch(call)),
            self._fields(block),
            **self._common(found, name),
        )

    def _input(self, found: Branch) -> ast.Input:
        name, type_, *default = found.parts
        return ast.Input(
            self.span(found),
            self._defined(name),
            self.ident(type_),
            self.expr(default[0]) if default else None,
            **self._common(found, name),
        )

    def _let(self, found: Branch) -> ast.Let:
        name, value = found.parts
        return ast.Let(
            self.span(found), self._defined(name), self.expr(value), **self._common(found, name)
        )

    def _fn(self, found: Branch) -> ast.Fn:
        name, *params, result, body = found.parts
        return ast.Fn(
            self.span(found),
            self._defined(name),
            tuple(self._param(branch(part)) for part in params),
            self.ident(result),
            self.expr(body),
            **self._common(found, name),
        )

    def _param(self, found: Branch) -> ast.Param:
        name, type_ = found.parts
        return ast.Param(self.span(found), self._defined(name), self.ident(type_))

    # ---- the world ---------------------------------------------------------------------------

    def _machine(self, found: Branch) -> ast.Machine:
        name, value, *block = found.parts
        return ast.Machine(
            self.span(found),
            self._defined(name),
            self.expr(value),
            self._fields(block),
            **self._common(found, name),
        )

    def _scenario(self, found: Branch) -> ast.Scenario:
        name, machine, *block = found.parts
        return ast.Scenario(
            self.span(found),
            self._defined(name),
            self.ident(machine),
            self._fields(block),
            **self._common(found, name),
        )

    def _dataset(self, found: Branch) -> ast.Dataset:
        name, call, *block = found.parts
        return ast.Dataset(
            self.span(found),
            self._defined(name),
            self.call(branch(call)),
            self._fields(block),
            **self._common(found, name),
        )

    def _score(self, found: Branch) -> ast.Score:
        name, call, *block = found.parts
        return ast.Score(
            self.span(found),
            self._defined(name),
            self.call(branch(call)),
            self._fields(block),
            **self._common(found, name),
        )

    # ---- the edits ---------------------------------------------------------------------------

    def _apply(self, found: Branch) -> ast.Apply:
        site, *selector, block = found.parts
        return ast.Apply(
            self.span(found),
            self.ident(site),
            self.selector(selector[0]) if selector else None,
            self._fields([block]),
            **self._common(found, site),
        )

    def _choose(self, found: Branch) -> ast.Choose:
        site, selector, *rest = found.parts
        choose = ast.Choose(
            self.span(found),
            self.ident(site),
            self.selector(selector),
            tuple(self._alternative(branch(part)) for part in rest),
            **self._common(found, site),
        )
        self._check_alternatives(choose)
        return choose

    def _alternative(self, found: Branch) -> ast.Alternative:
        if found.rule == "keep":
            return ast.Keep(self.span(found))
        name, *rest = found.parts
        clauses: dict[str, Branch] = {}
        args: list[ast.Expr] = []
        for part in map(branch, rest):
            if part.rule not in ("by", "init", "when"):
                args.append(self.expr(part))
            elif part.rule in clauses:
                self._twice(part, clauses[part.rule])
            else:
                clauses[part.rule] = part
        values = {rule: self.expr(part.parts[0]) for rule, part in clauses.items()}
        return ast.Edit(
            self.span(found),
            self.ident(name),
            tuple(args),
            values.get("by"),
            values.get("init"),
            values.get("when"),
        )

    def _twice(self, again: Branch, first: Branch) -> None:
        labels = (
            Label(self.span(again), "given again", primary=True),
            Label(self.span(first), "first given here"),
        )
        message = f"this alternative has two `{again.rule}` clauses"
        self.sink.report(Diagnostic(catalog.E0202, message, labels))

    def _check_alternatives(self, choose: ast.Choose) -> None:
        if not choose.alternatives:
            label = Label(choose.head, "there is nothing to choose from", primary=True)
            notes = ("`keep` is the alternative that changes nothing",)
            message = f"`choose {choose.site.text}` has no alternatives"
            self.sink.report(Diagnostic(catalog.E0105, message, (label,), notes=notes))

    # ---- the wishes --------------------------------------------------------------------------

    def _wish(self, found: Branch) -> tuple[ast.Ident | None, ast.Expr, ast.Str | None]:
        parts = list(found.parts)
        label = None
        if isinstance(parts[0], Lexeme):
            first = parts.pop(0)
            label = ast.Ident(self.span(first), leaf(first).text[1:])
        message = self.string(branch(parts[1])) if len(parts) > 1 else None
        return label, self.expr(parts[0]), message

    def _label_of(self, found: Branch) -> Lexeme | None:
        first = found.parts[0]
        return first if isinstance(first, Lexeme) else None

    def _expect(self, found: Branch) -> ast.Expect:
        common = self._common(found, self._label_of(found))
        return ast.Expect(self.span(found), *self._wish(found), **common)

    def _require(self, found: Branch) -> ast.Require:
        common = self._common(found, self._label_of(found))
        return ast.Require(self.span(found), *self._wish(found), **common)

    def _objective(self, found: Branch) -> ast.Objective:
        sense: ast.Sense = "minimize" if found.rule == "minimize" else "maximize"
        value = self.expr(found.parts[0])
        return ast.Objective(self.span(found), sense, value, **self._common(found))

    # ---- the afterwards ----------------------------------------------------------------------

    def _recover(self, found: Branch) -> ast.Recover:
        steps = tuple(self._step(branch(part)) for part in found.parts)
        return ast.Recover(self.span(found), steps, **self._common(found))

    def _step(self, found: Branch) -> ast.Step:
        kind, *name, block = found.parts
        return ast.Step(
            self.span(found),
            self.ident(kind),
            self._defined(name[0]) if name else None,
            self._fields([block]),
        )

    def _emit(self, found: Branch) -> ast.Emit:
        kind, path, *block = found.parts
        return ast.Emit(
            self.span(found),
            self.ident(kind),
            self.string(branch(path)),
            self._fields(block),
            **self._common(found, kind),
        )
