"""Plan + parent + checkpoint -> is this checkpoint the plan applied to the parent?

In: a plan that was read, the resolved parent, a checkpoint's directory. Out: `Verified`, when every
tensor is there, nothing else is, and each has the dtype, the shape and the bytes that the plan's
cut of the parent gives; and `config.json` and `per_layer_config.json` are those that the plan's
layers make. What differs is E0805, all of it at once. Refuses plans that were edited by hand or
made of another parent (E0801), and parents without weights (E0001).

Nothing is taken from a manifest or a cache: what the child should hold is cut from the parent once
more, in a stream, and what it does hold is read and hashed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog, edits, sizes
from surgery import plan as plans
from surgery.arch.configs import child_config, kv_scheme
from surgery.arch.per_layer import FILE as PER_LAYER
from surgery.arch.per_layer import per_layer_config
from surgery.arch.rope import stretched
from surgery.diagnostics import Diagnostic, Help, Sink, Stop
from surgery.edits.registry import written
from surgery.ir import Alternative, Block, Candidate, Cost, Decision, Model, Plan, TensorSpec
from surgery.lockfile import address
from surgery.ops import Copy, Output
from surgery.passes import cost, replan
from surgery.passes.resolve import MAX_CONFIG, read_config
from surgery.progress import Progress
from surgery.source import Source, Span
from surgery.tensors.digest import tensor_digests
from surgery.tensors.headers import Checkpoint, inside, open_checkpoint
from surgery.tensors.stream import CHUNK, Parents, aligned, send
from surgery.untrusted import read_capped, shown

_SHOW = 5
"""How many differences of each kind a finding lists."""


class Verified(Struct, frozen=True):
    """What was compared: tensors, their bytes, and how many of them the plan changes."""

    tensors: int
    nbytes: int
    changed: int


def run(
    plan: Plan, name: str, model: Model, directory: Path, sink: Sink, progress: Progress
) -> Verified | None:
    """Compare; `None` when a difference was reported. Raises `Stop` (E0001, E0004, E0801)."""
    _check_plan(plan, name, model)
    chosen = tuple(_candidate(each, model, name) for each in plan.decisions if each.artefact)
    outputs = edits.child_outputs(model, chosen)
    checkpoint = open_checkpoint(directory)
    told = stretched(model, float(plan.rope)) if plan.rope else model
    _compare_config(told, chosen, directory, sink)
    _compare_sidecar(told, chosen, directory, sink)
    _compare_headers(outputs, checkpoint, sink)
    if sink.failed:
        return None
    _compare_contents(model, outputs, checkpoint, sink, progress)
    if sink.failed:
        return None
    changed = sum(output.op != Copy(output.name) for output in outputs)
    return Verified(len(outputs), sum(output.nbytes for output in outputs), changed)


# ---- what the plan says ----------------------------------------------------------------------


def weigh(plan: Plan, name: str, model: Model) -> tuple[Cost, ...]:
    """What the child of a plan costs: the fixed part, then every site in plan order.

    Goes by the decisions alone, so neither weights nor kept lists are needed: a plan that was
    written by hand can be weighed on a `config.json`. Raises `Stop` (E0801) for decisions that
    cannot be made of this parent and for metrics that its child does not have.
    """
    decided = {(d.layer, d.site): d for d in plan.decisions}
    costs = [sizes.fixed(model)]
    for (layer, site), tensors in sizes.site_tensors(model).items():
        block, decision = model.layers[layer].block(site), decided.pop((layer, site), None)
        if decision is None:
            raise _stale(name, f"it decides nothing for `{address(layer, site)}`")
        costs.append(_weighed(decision, block, tensors, name))
    for place in decided:
        raise _stale(name, f"the model has no site `{address(*place)}`")
    stated = dict(plan.metrics)
    for metric, value in plans.sizes(costs, model.context):
        if stated.get(metric, value) != value:
            message = f"it says {stated[metric]} for `{metric}`, and its child has {value}"
            raise _stale(name, message)
    return tuple(costs)


def _weighed(
    decided: Decision, block: Block | None, tensors: tuple[TensorSpec, ...], name: str
) -> Cost:
    if block is None or decided.text == edits.keep_text(decided.site, block):
        return sizes.block_cost(block, tensors)
    try:
        alternative, facet, child = read_decision(decided, block, name)
        return cost.alternative_cost(tensors, block, child, decided.site, alternative, facet)
    except ValueError as error:
        where = f"{address(decided.layer, decided.site)}={decided.text}"
        raise _stale(name, f"`{where}` cannot be done to this parent: {error}") from error


def read_decision(
    decided: Decision, block: Block, name: str
) -> tuple[Alternative | None, Alternative | None, Block | None]:
    """The edit of a decision (`None`: keep), its facet, and what the parent's block becomes.

    Raises `ValueError` for what is nothing that can be done.
    """
    site, text, nowhere = decided.site, decided.text, _nowhere(name)

    def told(edit: edits.Edit | edits.FacetEdit, value: int) -> Alternative:
        return Alternative(nowhere, edit.name, Fraction(value) if edit.valued else None)

    beside = edits.written_facet(site, text)
    facet = None if beside is None else told(*beside)
    base, alternative = edits.with_facet(block, facet), None
    child: Block | None = base
    if edits.base_text(text) != edits.keep_text(site, block):
        found = written(site, text)
        if found is None:
            raise ValueError("there is no such edit")
        alternative, child = told(*found), found[0].become(base, found[1])
    if (facet is not None) is not ("+" in text) or (facet and not edits.shown(facet, child)):
        raise ValueError("there is no such facet")
    return alternative, facet, child


def _nowhere(name: str) -> Span:
    return Span(Source(name, ""), 0, 0)


def _check_plan(plan: Plan, name: str, model: Model) -> None:
    replan.require_listed(plan, name)
    if plan.stated is not None:
        raise _stale(name, "its decisions are not those that its hash was taken of")
    if not model.digest.startswith(plan.parent[1]):
        raise _stale(name, f"it was made for another parent than `{model.source}`")


def _candidate(decided: Decision, model: Model, name: str) -> Candidate:
    """The candidate of a decision, proven by its artefact hash."""
    where = address(decided.layer, decided.site)
    layers = {layer.index: layer for layer in model.layers}
    block = layers[decided.layer].block(decided.site) if decided.layer in layers else None
    try:
        if block is None:
            raise ValueError("there is no such block")
        alternative, facet, child = read_decision(decided, block, name)
    except ValueError as error:
        message = f"`{where}={decided.text}` is nothing that can be done to this parent"
        raise _stale(name, message) from error
    edit = alternative and edits.known(decided.site, alternative.edit)
    for init in (edit.inits if edit else ()) or (None,):
        candidate = Candidate(
            f"{where}.{decided.text}",
            decided.layer,
            decided.site,
            decided.text,
            child,
            sizes.block_cost(None, ()),
            alternative and replace(alternative, init=init),
            # A list of all goes with a facet; what is kept has none otherwise.
            decided.kept if (edit.selects if edit else facet) is not None else None,
            facet=facet,
            scales=decided.scales,
            merged=decided.merged,
        )
        try:
            artefact = edits.artefact(model, candidate)
            edits.outputs(model, candidate)
        except ValueError as error:
            raise _stale(name, f"what it keeps in `{where}` does not fit: {error}") from error
        if artefact.startswith(decided.artefact):
            return candidate
    raise _stale(name, f"`{where}={decided.text}` is not what its hash was taken of")


def _stale(name: str, message: str) -> Stop:
    helps = (Help("verify with the plan that the checkpoint was made by"),)
    return Stop(Diagnostic(catalog.E0801, message, subject=name, helps=helps))


# ---- what the checkpoint holds ---------------------------------------------------------------


def _compare_config(
    model: Model, chosen: tuple[Candidate, ...], directory: Path, sink: Sink
) -> None:
    layers = edits.child_layers(model, chosen)
    found, scheme = read_config(directory), kv_scheme(layers)
    # Whether engines are told of the cache is not for a plan to say.
    told = scheme is not None and found.get("quantization_config") == scheme
    expected = child_config(model, layers, told=told)
    differing = [key for key in expected if found.get(key) != expected[key]]
    added = [key for key in found if key not in expected and key not in ("auto_map",)]
    _report(
        sink,
        directory,
        "config.json is not what the plan makes of the parent's",
        (f"`{shown(key)}` differs" for key in (*differing, *added)),
    )


def _compare_sidecar(
    model: Model, chosen: tuple[Candidate, ...], directory: Path, sink: Sink
) -> None:
    expected = per_layer_config(model.family, edits.child_layers(model, chosen))
    there = os.path.lexists(directory / PER_LAYER)
    found = read_capped(inside(directory, PER_LAYER), MAX_CONFIG) if there else None
    if found == expected:
        return
    message = f"`{PER_LAYER}` is not what the plan makes of the layers"
    note = _first_difference(expected, found) if found is not None else "it is missing"
    _report(sink, directory, message, (note,))


def _first_difference(expected: bytes, found: bytes) -> str:
    """The first line that differs, as it should be and as it is."""
    texts = (text.decode(errors="replace").splitlines() for text in (expected, found))
    for number, (one, other) in enumerate(zip_longest(*texts, fillvalue=""), 1):
        if one != other:
            says, is_ = shown(other.strip()), one.strip()
            return f"line {number} is `{says}`, the plan says `{is_}`"
    return "line endings differ"


def _compare_headers(outputs: Iterable[Output], checkpoint: Checkpoint, sink: Sink) -> None:
    expected = {output.name: output for output in outputs}
    notes: list[str] = []
    for name, output in expected.items():
        stored = checkpoint.tensors.get(name)
        if stored is None:
            notes.append(f"missing: `{name}`")
        elif (stored.dtype, stored.shape) != (output.dtype, output.shape):
            is_ = f"{stored.dtype} {list(stored.shape)}"
            notes.append(f"`{name}` is {is_}, the plan says {output.dtype} {list(output.shape)}")
    notes += [f"unexpected: `{shown(name)}`" for name in checkpoint.tensors if name not in expected]
    _report(sink, checkpoint.directory, "the tensors are not those of the plan", notes)


def _compare_contents(
    model: Model,
    outputs: tuple[Output, ...],
    checkpoint: Checkpoint,
    sink: Sink,
    progress: Progress,
) -> None:
    with tempfile.TemporaryDirectory() as fresh:
        # A cache of its own, which is empty: every byte of the child is read.
        found = tensor_digests(checkpoint, Path(fresh))
    differing: list[str] = []
    total, done = sum(output.nbytes for output in outputs), 0
    with Parents(model) as parents:
        for output in outputs:
            progress("verify", done, total, "bytes")
            done += output.nbytes
            if _expected(output, model.contents, parents) != found[output.name]:
                differing.append(f"`{output.name}`")
    progress("verify", done, total, "bytes")
    message = f"{len(differing)} of {len(outputs)} tensors differ from the plan's cut of the parent"
    _report(sink, checkpoint.directory, message, differing)


def _expected(output: Output, contents: Mapping[str, str], parents: Parents) -> str:
    """SHA-256 (hex) of what the child tensor has to be."""
    if isinstance(output.op, Copy):
        return contents[output.op.source]
    pipe = _Hashing()
    send(output.op, parents, pipe)
    return pipe.digest.hexdigest()


class _Hashing:
    """A pipe that keeps nothing but the hash of what runs through it."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._view = aligned(CHUNK)

    def room(self) -> memoryview:
        """The same buffer every time."""
        return self._view

    def filled(self, count: int) -> None:
        """Hash the first `count` bytes."""
        self.digest.update(self._view[:count])


def _report(sink: Sink, directory: Path, message: str, notes: Iterable[str]) -> None:
    found = tuple(notes)
    if not found:
        return
    rest = (f"and {len(found) - _SHOW} more",) if len(found) > _SHOW else ()
    helps = (Help("write the checkpoint again with `surgery compile --plan`"),)
    listed = (*found[:_SHOW], *rest)
    sink.report(
        Diagnostic(catalog.E0805, message, subject=str(directory), notes=listed, helps=helps)
    )
