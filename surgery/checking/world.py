"""The world of a spec: model, machines, scenarios, datasets and scores.

In: their statements. Out: `Entity`s around the records of `surgery.ir`, under the names that plans
give them. Reports what `fields.py` does, and values that no such thing can have (E0309):
an unpinned wheel, a digest that is none, a tail longer than its samples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Literal, cast

from msgspec.structs import replace

from surgery import catalog, ir
from surgery.checking import fields as blocks
from surgery.checking.fields import Block
from surgery.checking.modules import Module
from surgery.checking.names import undefined
from surgery.checking.repairs import of_type
from surgery.checking.scope import Check, Scope
from surgery.checking.tables import FUNCTIONS
from surgery.checking.types import Misfit, exact, fit, whole
from surgery.checking.values import Entity, Failed, Made, Text, Value, Word, noun
from surgery.costing import parallel
from surgery.diagnostics import Help, Label
from surgery.grammar import ast

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!]*")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

_STEEPEST = 4
"""Zipf's exponent above which hardly any expert is read but those that everybody chooses."""


def _made(check: Check, node: ast.Expr, scope: Scope, kind: str, what: str) -> Made | None:
    """The call that a declaration is made by, when it returns the right kind of thing."""
    value = check.value(node, scope)
    if isinstance(value, Failed):
        return None
    found = fit(value, kind)
    if isinstance(found, Made):
        return found
    makers = [f"`{f.signature}`" for f in FUNCTIONS.values() if f.result == kind]
    given = f"`{value.name}(...)`" if isinstance(value, Made) else noun(value)
    message = f"{what} is not made by {given}"
    notes = (f"it is made by {' or '.join(makers)}",)
    check.error(catalog.E0302, message, value.span, f"does not make {what}", notes=notes)
    return None


def _text(values: Mapping[str, Value], name: str) -> str | None:
    value = values.get(name)
    return value.text if isinstance(value, Text) else None


def declare(
    check: Check,
    module: Module,
    item: ast.Model | ast.Machine | ast.Scenario | ast.Dataset | ast.Score,
) -> Value:
    """The entity that a statement declares; `Failed` after a report."""
    match item:
        case ast.Model():
            return model(check, module, item)
        case ast.Machine():
            return machine(check, module, item)
        case ast.Scenario():
            return scenario(check, module, item)
        case ast.Dataset():
            return dataset(check, module, item)
        case ast.Score():
            return score(check, module, item)


# ---- models ----------------------------------------------------------------------------------


def model(check: Check, module: Module, item: ast.Model) -> Value:
    """`model parent = hf("org/name") { revision = "..." }`."""
    scope = Scope(module)
    made = _made(check, item.call, scope, "source", "a model")
    if made is None:
        return Failed(item.span)
    block = Block(f"{made.name} model", item.head, item.span, item.fields)
    values = blocks.read(check, block, scope)
    if values is None or not _identified(check, made, values):
        return Failed(item.span)
    kind = cast("Literal['local', 'hf', 'gguf', 'wheel']", made.name)
    location = next(value.text for _, value in made.args if isinstance(value, Text))
    decl = ir.ModelDecl(
        item.head.to(item.call.span),
        item.name.text,
        kind,
        location,
        made.text("file"),
        _text(values, "revision"),
        _text(values, "sha256"),
    )
    return Entity(item.head, "model", item.name.text, decl)


def _identified(check: Check, made: Made, values: Mapping[str, Value]) -> bool:
    """Whether the texts that say which model it is have their forms."""
    digest = values.get("sha256")
    if isinstance(digest, Text) and not _SHA256.fullmatch(digest.text):
        message = "a SHA-256 digest is 64 hexadecimal digits in lower case"
        check.error(catalog.E0309, message, digest.span, f"{len(digest.text)} characters")
        return False
    given = made.args[0][1]
    if made.name in ("local", "gguf") and not _located(check, made.name, given):
        return False
    form = {"wheel": _PINNED, "hf": _HUB_NAME}.get(made.name)
    if form is None or not isinstance(given, Text) or form.fullmatch(given.text):
        return True
    wants = {
        "wheel": ("a wheel is named with its exact version, as in `name==1.2.3`", "not pinned"),
        "hf": ("a repository is named as in `organisation/name`", "no such form"),
    }
    message, label = wants[made.name]
    check.error(catalog.E0309, message, given.span, label)
    return False


def _located(check: Check, kind: str, given: Value) -> bool:
    """Whether a path is one; an empty one would be the folder of the spec itself."""
    if not isinstance(given, Text) or given.text.strip():
        return True
    check.error(catalog.E0309, f"`{kind}` needs a path", given.span, "empty")
    return False


# ---- machines and scenarios ------------------------------------------------------------------


def machine(check: Check, module: Module, item: ast.Machine) -> Value:
    """`machine node = 8 * nvidia.h100_sxm { ... }`, or a new device."""
    scope = Scope(module)
    value = check.value(item.value, scope)
    device = isinstance(value, Made) and value.type == "device"
    block = Block("device" if device else "machine", item.head, item.span, item.fields)
    values = blocks.read(check, block, scope)
    if values is None or isinstance(value, Failed):
        return Failed(item.span)
    if isinstance(value, Made) and device:
        base = ir.Machine(item.head, "", value.text("name") or "", 1, ())
    elif isinstance(value, Entity) and isinstance(value.decl, ir.Machine):
        base = value.decl
    else:
        message = f"a machine is not made of {noun(value)}"
        notes = ('it is made of machines, as in `8 * nvidia.h100_sxm`, or of a `device("...")`',)
        return check.error(catalog.E0302, message, value.span, "not a machine", notes=notes)
    fields = dict(base.fields) | {name: exact(each) for name, each in values.items()}
    name = module.qualified(item.name.text)
    decl = ir.Machine(item.head, name, base.device, base.gpus, tuple(sorted(fields.items())))
    if (fault := parallel.fault(decl)) is not None:
        at = values[fault.field].span if fault.field in values else item.head
        return check.error(catalog.E0309, fault.message, at, fault.label)
    return Entity(item.head, "machine", name, decl)


def scenario(check: Check, module: Module, item: ast.Scenario) -> Value:
    """`scenario long on node { prefill = ... }`."""
    scope = Scope(module)
    values = blocks.read(check, Block("scenario", item.head, item.span, item.fields), scope)
    on = _on(check, item.machine, scope)
    lengths = _lengths(check, module, values) if values is not None else None
    if values is None or on is None or lengths is None:
        return Failed(item.span)
    batch, engine, clients = values.get("batch"), values.get("engine"), values.get("clients")
    name = module.qualified(item.name.text)
    decl = ir.Scenario(
        item.head,
        name,
        on.name,
        *lengths[:2],
        None if batch is None or isinstance(batch, Word) else whole(batch),
        engine.text if isinstance(engine, Word) else "vllm",
        whole(clients) if clients else None,
        exact(values["verbosity"]) if "verbosity" in values else Fraction(1),
        lengths[2],
    )
    if (skew := values.get("skew")) is not None:
        decl = replace(decl, skew=exact(skew))
        if decl.skew > _STEEPEST:
            message = f"`skew` is at most {_STEEPEST}, and `{skew.span.text}` is more"
            return check.error(catalog.E0309, message, skew.span, "no expert but the first few")
    if isinstance(text := values.get("routing"), Entity):
        decl = replace(decl, routing=text.name)
    return Entity(item.head, "scenario", name, decl)


def _lengths(
    check: Check, module: Module, values: Mapping[str, Value]
) -> tuple[int, int, ir.Trace | None] | None:
    """Tokens in and out, of a trace on average; `None` after a report."""
    verbosity, given = values.get("verbosity"), values.get("trace")
    if verbosity is not None and exact(verbosity) == 0:
        message = "a child that answers with no tokens serves nothing"
        check.error(catalog.E0309, message, verbosity.span, "0")
        return None
    if not isinstance(given, Text):
        return whole(values["prefill"]), whole(values["decode"]), None
    # Few specs have a trace, and every check is felt.
    from surgery.sources import trace

    try:
        found = trace.read(Path(check.main.source.name).parent / module.folder / given.text)
    except trace.Unreadable as wrong:
        message = f"the trace `{given.text}` cannot be read: {wrong.message}"
        here = "this file" if wrong.line is None else f"line {wrong.line} of this file"
        helps = (Help(wrong.help),) if wrong.help else ()
        check.error(catalog.E0309, message, given.span, here, helps=helps)
        return None
    return ceil(found.lengths.prefill), ceil(found.lengths.decode), found


def _on(check: Check, ident: ast.Ident, scope: Scope) -> Entity | None:
    module = scope.module
    if ident.text not in module.items and ident.text not in module.lost:
        undefined(check, ident.text, ident.span, scope)
        return None
    value = check.value(ast.Name(ident.span, ident.text), scope)
    found = fit(value, "machine")
    if isinstance(found, Misfit):
        message = f"a scenario runs on a machine, and `{ident.text}` is {noun(value)}"
        helps = of_type(ident.span, module, "machine")
        check.error(catalog.E0302, message, ident.span, "not a machine", helps=helps)
        return None
    return found if isinstance(found, Entity) else None


# ---- datasets and scores ---------------------------------------------------------------------


def dataset(check: Check, module: Module, item: ast.Dataset) -> Value:
    """`dataset text = local("data/text.jsonl") { take = 256 ... }`."""
    scope = Scope(module)
    made = _made(check, item.call, scope, "source", "a dataset")
    if made is not None and made.name not in ("local", "hf"):
        message = f"a dataset cannot come from `{made.name}(...)`"
        notes = ("it comes from `local(...)` or `hf(...)`",)
        check.error(catalog.E0302, message, made.span, "a place for models", notes=notes)
        made = None
    if made is not None and made.name == "local" and not _located(check, "local", made.args[0][1]):
        made = None
    values = blocks.read(check, Block("dataset", item.head, item.span, item.fields), scope)
    if made is None or values is None:
        return Failed(item.span)
    name = module.qualified(item.name.text)
    location = made.text("path") or made.text("name") or ""
    if made.name == "local":
        location = str(module.folder / location)
    else:
        check.later(item.call.span, "a dataset from the hub")
    decl = ir.Dataset(
        item.head,
        name,
        "local" if made.name == "local" else "hf",
        location,
        whole(values["take"]),
        whole(values["length"]),
        whole(values["seed"]) if "seed" in values else 0,
    )
    return Entity(item.head, "dataset", name, decl)


def score(check: Check, module: Module, item: ast.Score) -> Value:
    """`score damage = swap_one(metric: kl(logits), on: text) { tail = 8K tok }`."""
    scope = Scope(module)
    made = _made(check, item.call, scope, "recipe", "a score")
    values = blocks.read(check, Block("score", item.head, item.span, item.fields), scope)
    if made is None or values is None:
        return Failed(item.span)
    on = dict(made.args)["on"]
    if not isinstance(on, Entity) or not isinstance(on.decl, ir.Dataset):
        return Failed(item.span)
    tail = whole(values["tail"]) if "tail" in values else None
    if tail is not None and tail > on.decl.length:
        also = Label(on.decl.span, f"its samples have {on.decl.length} tok")
        message = "the tail of a score is longer than its samples"
        span = values["tail"].span
        label = f"{tail - on.decl.length} tok too long"
        return check.error(catalog.E0309, message, span, label, also)
    name = module.qualified(item.name.text)
    return Entity(item.head, "score", name, ir.Score(item.head, name, "kl", on.name, tail))
