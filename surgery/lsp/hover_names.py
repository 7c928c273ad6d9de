"""What a name of the spec is: declaration, documentation, type and value.

In: an occurrence. Out: Markdown, or `None` for a name that cannot be found any more. Also finds
the statement behind a name, for completion and definition.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery.checking.modules import Module
from surgery.checking.values import TYPES, is_expr
from surgery.grammar import ast
from surgery.lsp import describe, values
from surgery.lsp.analysis import Analysis, below
from surgery.lsp.occurrences import Occurrence, Symbol
from surgery.lsp.plans import evidence
from surgery.lsp.workspace import Workspace
from surgery.source import Span


def modules(analysis: Analysis) -> Iterator[Module]:
    """The file itself, then what it imports."""
    yield analysis.module
    yield from below(analysis.module)


def module_of(analysis: Analysis, symbol: Symbol) -> Module | None:
    """The file that defines a symbol."""
    return next((m for m in modules(analysis) if m.source.name == symbol.file), None)


def statement(analysis: Analysis, symbol: Symbol) -> ast.Statement | None:
    """The statement that defines a name."""
    module = module_of(analysis, symbol)
    if module is None or symbol.kind != "name":
        return None
    return module.items.get(symbol.name)


def named(workspace: Workspace, analysis: Analysis, place: Occurrence) -> str | None:
    """What is said about a name."""
    symbol = place.symbol
    match symbol.kind:
        case "name":
            return _defined(workspace, analysis, symbol, place.span)
        case "parameter":
            return _parameter(analysis, symbol)
        case "label":
            return _label(analysis, symbol)
        case "step":
            return f"`{symbol.name}`: a step of `recover`"


def describe_symbol(workspace: Workspace, analysis: Analysis, symbol: Symbol) -> str | None:
    """What is said about a name that stands nowhere yet."""
    item = statement(analysis, symbol)
    return None if item is None else _defined(workspace, analysis, symbol, item.head)


def _defined(workspace: Workspace, analysis: Analysis, symbol: Symbol, at: Span) -> str | None:
    module, item = module_of(analysis, symbol), statement(analysis, symbol)
    if module is None or item is None:
        return None
    lines = [describe.code(describe.declaration(item))]
    if item.doc:
        lines.append(item.doc)
    if isinstance(item, ast.Import):
        inner = module.imports.get(symbol.name)
        lines += [inner.tree.description] if inner is not None else []
        return "\n".join(lines)
    lines += _value(workspace, analysis, module, symbol.name, at)
    return "\n".join(lines)


def _value(
    workspace: Workspace, analysis: Analysis, module: Module, name: str, at: Span
) -> list[str]:
    value = analysis.ask.named(module, name, at)
    if value is None or not is_expr(value):
        return []
    if text := describe.value_text(value):
        return [f"= {text}"]
    model = workspace.parents.model(analysis)
    if model is None:
        return []
    found = values.value(analysis, model, value, analysis.ask.scope(()))
    return [f"= {values.text(found, value)} on the parent"] if found is not None else []


def _parameter(analysis: Analysis, symbol: Symbol) -> str | None:
    module = module_of(analysis, symbol)
    item = module.items.get(symbol.owner) if module is not None else None
    if not isinstance(item, ast.Fn):
        return None
    param = next((p for p in item.params if p.name.text == symbol.name), None)
    if param is None:
        return None
    what = TYPES.get(param.type.text, "")
    return f"{describe.code(param.span.text)}\nparameter of `{symbol.owner}`: {what}"


def _label(analysis: Analysis, symbol: Symbol) -> str | None:
    text = f"`@{symbol.name}` names this `{symbol.owner}` in findings, plans and `--relax`"
    found = evidence(analysis).get(f"@{symbol.name}")
    if symbol.owner != "require" or found is None:
        return text
    return f"{text}\n\nin the last plan: {found.value} {found.op} {found.limit}"
