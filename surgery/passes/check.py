"""AST -> Spec: imports, inputs, names, types, units, affinity.

In: the abstract syntax of a file (and of what it imports), and `--set` values. Out: an `ir.Spec`
in canonical order with its digest, or `None` when anything was wrong; every mistake that is not
the consequence of another has been reported to the sink. What checks but has no back end yet is
listed in `Spec.not_yet`. Reads no model: layers, widths and sizes are checked by later passes.

The work is done by `surgery/checking/`: `define` and `world` for what
has a name, `exprs` and its parts for expressions, `edits`, `wishes` and
`after` for the rest, `spec` for the result; `tables` is the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from surgery import catalog, ir
from surgery.checking import after, apply, edits, wishes
from surgery.checking.define import define
from surgery.checking.exprs import elaborate
from surgery.checking.modules import Module, load
from surgery.checking.names import quoted, resolve
from surgery.checking.scope import Check
from surgery.checking.spec import Wishes, assemble
from surgery.checking.values import Entity
from surgery.diagnostics import Diagnostic, Help, Label, Sink, Stop
from surgery.grammar import ast
from surgery.grammar.near import nearest
from surgery.source import Span

_T = TypeVar("_T")


def run(
    tree: ast.Spec,
    sink: Sink,
    settings: Mapping[str, str],
    texts: Mapping[str, str] | None = None,
) -> ir.Spec | None:
    """Check a spec. `settings` are the texts of `--set name=text` by name; `texts` stand for
    files that an editor has open (`checking/modules.py`)."""
    main = load(tree, sink, texts)
    check = Check(sink, settings, main, elaborate, define)
    told = len(sink.found)
    try:
        found = _spec(check)
    except Stop as stop:
        sink.report(stop.diagnostic)
        found = None
    sink.found[told:] = [each for each in sink.found[told:] if not _in_doubt(main, each)]
    return found


def _in_doubt(module: Module, diagnostic: Diagnostic) -> bool:
    """Whether a finding stands on a line that could not be read as it is."""
    label = diagnostic.primary
    if label is None:
        return False
    tree = module.tree
    here = tree.holes and label.span.source == tree.span.source and tree.in_doubt(label.span)
    return bool(here) or any(_in_doubt(each, diagnostic) for each in module.imports.values())


def _spec(check: Check) -> ir.Spec | None:
    tree = check.main.tree
    _known_settings(check)
    _define_all(check)
    model = _model(check)
    offers = _some(edits.choose(check, each) for each in _of(tree, ast.Choose))
    applied = _some(apply.apply(check, each) for each in _of(tree, ast.Apply))
    rope = apply.only_rope(check, applied)
    wanted = _wishes(check)
    emits = _some(after.emit(check, each) for each in _of(tree, ast.Emit))
    for each in _of(tree, ast.Recover):
        after.recover(check, each)
    _outputs(check, emits)
    _imported(check)
    if check.sink.failed or model is None or wanted.objective is None:
        return None
    facets = (each for each in applied if isinstance(each, ir.Facet))
    spec = assemble(check, model, (*offers, *facets), wanted, emits)
    if rope is None:
        return spec
    return replace(spec, rope=rope, meaning=(*spec.meaning, ("rope", rope.text)))


def _of(tree: ast.Spec, kind: type[_T]) -> tuple[_T, ...]:
    return tuple(item for item in tree.items if isinstance(item, kind))


def _some(found: Iterable[_T | None]) -> tuple[_T, ...]:
    return tuple(each for each in found if each is not None)


def _start(check: Check) -> Span:
    """Where to point when something is missing from the file: its first line."""
    source = check.main.source
    end = source.text.find("\n")
    return Span(source, 0, end if end >= 0 else len(source.text))


# ---- what has a name -------------------------------------------------------------------------


def _known_settings(check: Check) -> None:
    """E0208 for `--set` of what is no input."""
    inputs = sorted(name for name, item in check.main.items.items() if isinstance(item, ast.Input))
    for name in sorted(check.settings):
        if name in inputs or name in check.main.lost:
            continue
        are = "its input is" if len(inputs) == 1 else "its inputs are"
        known = f"{are} {quoted(inputs)}" if inputs else "it has no inputs"
        value = check.settings[name]
        helps = tuple(Help(f"write `--set {other}={value}`") for other in nearest(name, inputs))
        message = f"this spec has no input `{name}`"
        subject = f"--set {name}={value}"
        check.sink.report(Diagnostic(catalog.E0208, message, (), subject, (), (known,), helps))


def _define_all(check: Check) -> None:
    for name, item in check.main.items.items():
        resolve(check, check.main, name, item.head)


def _model(check: Check) -> ir.ModelDecl | None:
    """The one model of the spec."""
    models = _of(check.main.tree, ast.Model)
    if not models:
        if not any(word == "model" for word in _broken(check)):
            message = "this spec has no model"
            helps = (Help('say what to cut: `model parent = local("folder")`'),)
            check.error(catalog.E0209, message, _start(check), "no `model`", helps=helps)
        return None
    for extra in models[1:]:
        also = Label(models[0].head, "the first one")
        message = "a spec has one model, and this is another"
        check.error(catalog.E0209, message, extra.head, "another model", also)
    value = resolve(check, check.main, models[0].name.text, models[0].head)
    decl = value.decl if isinstance(value, Entity) else None
    return decl if isinstance(decl, ir.ModelDecl) else None


def _broken(check: Check) -> tuple[str, ...]:
    """First words of the statements that did not parse."""
    return check.main.broken


def _imported(check: Check) -> None:
    """Look into what is imported but never used: its mistakes are mistakes too."""
    seen: set[str] = set()
    stack = list(check.main.imports.values())
    while stack:
        module = stack.pop()
        if module.source.name in seen or module.standard:
            continue
        seen.add(module.source.name)
        stack += module.imports.values()
        _only_names(check, module)
        for name, item in module.items.items():
            resolve(check, module, name, item.head)


def _only_names(check: Check, module: Module) -> None:
    defined = ast.Import | ast.Let | ast.Fn | ast.Machine | ast.Scenario | ast.Dataset | ast.Score
    for item in module.tree.items:
        # A model or an input has a name, so `define` reports it.
        if not isinstance(item, defined | ast.Model | ast.Input):
            message = f"an imported file cannot say `{item.head.text.split()[0]}`"
            notes = ("it can define names: " + quoted(_NAMING),)
            label = "belongs into the spec itself"
            check.error(catalog.E0210, message, item.head, label, notes=notes)


_NAMING = ("let", "fn", "machine", "scenario", "dataset", "score")


# ---- wishes and outputs ----------------------------------------------------------------------


def _wishes(check: Check) -> Wishes:
    tree = check.main.tree
    expects, requires = _of(tree, ast.Expect), _of(tree, ast.Require)
    wishes.labels(check, expects)
    wishes.labels(check, requires)
    objectives = _of(tree, ast.Objective)
    lost = any(word in ("minimize", "maximize") for word in _broken(check))
    return Wishes(
        _some(wishes.expect(check, each) for each in expects),
        _some(wishes.require(check, each) for each in requires),
        None if lost and not objectives else wishes.objective(check, objectives, _start(check)),
    )


def _outputs(check: Check, emits: tuple[ir.Emit, ...]) -> None:
    """E0202 for two outputs of one kind at one place."""
    seen: dict[tuple[str, str], ir.Emit] = {}
    for each in emits:
        first = seen.setdefault((each.kind, each.path), each)
        if first is not each:
            message = f"the {each.kind} `{each.path}` is emitted twice"
            also = Label(first.span, "first emitted here")
            check.error(catalog.E0202, message, each.span, "emitted again", also)
