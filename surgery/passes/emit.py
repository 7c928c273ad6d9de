"""Plan -> checkpoint, runtime.json, provenance.json: what the user takes away.

In: the plan with its chosen candidates, ranked. Out: `Emitted`; on disk a folder with `NAME.plan`,
`checkpoint/`, `runtime.json` and `provenance.json`, the same bytes every time, which appears whole
or not at all (`passes/emit_place.py`). Refuses places that are taken, overlap the parent or
cannot be written (E0802, E0803, E0806, E0807), a parent without weights (E0001), and a runtime
context longer than the model's (E0804). Reads weights as a stream; torch is not imported.

Without `-o`, every path of an `emit` is such a folder, relative to where surgery runs, with what
its statements ask for; all of them appear, or none. With `-o` there is one folder with everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog, lockfile
from surgery.arch.configs import child_config, kv_scheme
from surgery.diagnostics import Diagnostic, Help, Label, Sink, Stop
from surgery.ir import Candidate, Emit, Model, Plan, Space, Spec
from surgery.passes import emit_place
from surgery.passes.emit_child import Child, child_of
from surgery.passes.emit_files import checkpoint_files, manifest, runtime_json
from surgery.passes.emit_place import MANIFEST, reported, staged, sync, write_file
from surgery.tensors.layout import Layout, layout
from surgery.tensors.write import WrittenTensor, write_checkpoint
from surgery.units import format_tokens

if TYPE_CHECKING:
    from surgery.passes.judge import Judgement

CHECKPOINT = "checkpoint"
RUNTIME = "runtime.json"


class Emitted(Struct, frozen=True):
    """What was written. Bytes are those of the safetensors files, headers included."""

    directory: Path
    checkpoint: Path | None
    model_type: str
    params: int
    predicted_bytes: int
    actual_bytes: int
    others: tuple[Path, ...] = ()
    """Further folders, when the spec's `emit` statements name several."""


class Target(Struct, frozen=True):
    """One folder to write, and which statements ask for what in it."""

    directory: Path
    checkpoint: Emit | None
    runtime: Emit | None
    everything: bool = False

    @property
    def has_checkpoint(self) -> bool:
        """Whether weights go here."""
        return self.everything or self.checkpoint is not None

    @property
    def has_runtime(self) -> bool:
        """Whether a `runtime.json` goes here."""
        return self.everything or self.runtime is not None


def run(
    spec: Spec,
    model: Model,
    space: Space,
    plan: Plan,
    chosen: tuple[Candidate, ...],
    out: Path | None,
    sink: Sink,
    progress: Callable[[int], None] | None = None,
    judgement: Judgement | None = None,
) -> Emitted | None:
    """Write everything; `None` when something was reported, and then nothing is left behind.

    `out` is the `-o` folder, if there is one. `progress` is told the bytes of each tensor, the
    model card what the child has lost by its `judgement`.
    """
    try:
        check(spec, model, out)
        goals = targets(spec, out)
        name = Path(spec.source.name).stem
        child = child_of(name, model, plan, chosen, spec.description, judgement)
        _check_costs(child, space)
        told = tuple(_told(goal.checkpoint, child) for goal in goals)
        made = _write_all(told, goals, progress)
    except Stop as stop:
        sink.report(stop.diagnostic)
        return None
    first, *rest = sorted(made, key=lambda each: each.checkpoint is None)
    return replace(first, others=tuple(each.directory for each in rest))


def check(spec: Spec, model: Model, out: Path | None) -> None:
    """Raise the `Stop` that writing would end in, as far as it can be known before measuring.

    Nothing is created, so whether the place can be written shows up to its first folder that
    exists.
    """
    _check_weights(model)
    goals = targets(spec, out)
    emit_place.check_apart(tuple(goal.directory for goal in goals))
    for goal in goals:
        _check_context(goal.runtime, model)
        _check_scheme(goal.checkpoint, model)
        emit_place.check(goal.directory, model.directory)


def targets(spec: Spec, out: Path | None) -> tuple[Target, ...]:
    """The folders to write; raises `Stop` (E0806) where nobody names one."""
    checkpoints = {e.path: e for e in reversed(spec.emits) if e.kind == "checkpoint"}
    runtimes = {e.path: e for e in reversed(spec.emits) if e.kind == "runtime"}
    if out is not None:
        first = (next(reversed(each.values()), None) for each in (checkpoints, runtimes))
        return (Target(out, *first, everything=True),)
    paths = sorted({*checkpoints, *runtimes})
    if not paths:
        helps = (Help("add `-o OUT`, or an `emit checkpoint` to the spec"),)
        message = "there is no output folder: no `-o`, and no `emit` in the spec"
        raise Stop(Diagnostic(catalog.E0806, message, subject=spec.source.name, helps=helps))
    return tuple(Target(Path(p), checkpoints.get(p), runtimes.get(p)) for p in paths)


def _check_weights(model: Model) -> None:
    if not model.files:
        message = f"`{model.source}` holds a config and no weights, so there is nothing to cut"
        helps = (Help("fetch the checkpoint's safetensors files as well"),)
        raise Stop(Diagnostic(catalog.E0001, message, subject=model.source, helps=helps))


def _check_costs(child: Child, space: Space) -> None:
    """What was promised is what will be written; anything else is a bug of ours."""
    costs = (space.fixed, *(candidate.cost for candidate in child.chosen))
    promised = sum(cost.weights for cost in costs), sum(cost.params for cost in costs)
    found = sum(output.nbytes for output in child.outputs), child.params
    if found != promised:
        raise ValueError(f"the plan counts {promised} bytes and parameters, its tensors {found}")


def _check_context(emit: Emit | None, model: Model) -> None:
    if emit is not None and emit.context is not None and emit.context > model.context:
        asked, has = format_tokens(emit.context), format_tokens(model.context)
        message = f"a runtime for {asked} tok is longer than the model's context of {has} tok"
        label = Label(emit.span, f"the model sees {has} tok at most", primary=True)
        raise Stop(Diagnostic(catalog.E0804, message, (label,)))


def _check_scheme(emit: Emit | None, model: Model) -> None:
    """E0804 where the config tells of quantised weights: there is one place for both."""
    quantised = model.config.get("quantization_config")
    if emit is not None and emit.kv_scheme is not None and quantised is not None:
        message = "`kv_scheme` needs the `quantization_config` that the model has for its weights"
        label = Label(emit.span, "asks for a second one", primary=True)
        help = "leave `kv_scheme` out: the scales are written in any case"
        raise Stop(Diagnostic(catalog.E0804, message, (label,), helps=(Help(help),)))


def _told(emit: Emit | None, child: Child) -> Child:
    """The child whose config tells engines of its FP8 cache, if the spec asks for that."""
    caches = {layer.attends.kv_dtype for layer in child.layers if layer.attends is not None}
    if emit is None or emit.kv_scheme is None or "fp8_e4m3" not in caches:
        return child
    if kv_scheme(child.layers) is None:
        message = "`kv_scheme` speaks of all layers, and this plan caches some of them in BF16"
        label = Label(emit.span, "cannot say which", primary=True)
        help = "leave `kv_scheme` out, and tell the engine which layers to leave in BF16"
        raise Stop(Diagnostic(catalog.E0804, message, (label,), helps=(Help(help),)))
    return replace(child, config=child_config(child.model, child.layers, told=True))


# ---- folders ---------------------------------------------------------------------------------


def _write_all(
    children: tuple[Child, ...],
    goals: tuple[Target, ...],
    progress: Callable[[int], None] | None,
) -> tuple[Emitted, ...]:
    """Write all folders beside their places, then put all in place, or none; raises `Stop`."""
    places = tuple(goal.directory for goal in goals)
    made: list[Emitted] = []
    with staged(places, children[0].model.directory) as folders:
        for child, goal, folder in zip(children, goals, folders, strict=True):
            with reported(goal.directory):
                made.append(_write(child, goal, folder, progress))
    return tuple(made)


def _write(
    child: Child, goal: Target, folder: Path, progress: Callable[[int], None] | None
) -> Emitted:
    """Write what belongs into `goal` to `folder`; raises `Stop` and `OSError`."""
    if not goal.has_checkpoint:
        _finish(folder, child, _small(child, goal), (), {})
        return Emitted(goal.directory, None, child.model_type, child.params, 0, 0)
    shard = goal.checkpoint.shard if goal.checkpoint else None
    laid = layout(child.outputs, shard)
    beside = checkpoint_files(child).items()
    small = _small(child, goal) | {f"{CHECKPOINT}/{path}": data for path, data in beside}
    weights = folder / CHECKPOINT
    weights.mkdir(mode=0o755)
    written = write_checkpoint(weights, child.model, child.outputs, shard, progress=progress)
    _finish(folder, child, small, written, _weights(laid))
    actual = sum((weights / shard.name).stat().st_size for shard in laid.shards)
    return Emitted(
        goal.directory,
        goal.directory / CHECKPOINT,
        child.model_type,
        child.params,
        sum(shard.size for shard in laid.shards),
        actual,
    )


def _small(child: Child, goal: Target) -> dict[str, bytes]:
    """The files beside the checkpoint."""
    found = {f"{child.name}.plan": lockfile.text(child.plan).encode()}
    if goal.has_runtime:
        folder = CHECKPOINT if goal.has_checkpoint else None
        found[RUNTIME] = runtime_json(child, goal.runtime, folder)
    return found


def _finish(
    folder: Path,
    child: Child,
    small: Mapping[str, bytes],
    written: tuple[WrittenTensor, ...],
    weights: Mapping[str, tuple[int, str]],
) -> None:
    """Write the small files, and the manifest of everything last."""
    for path, data in sorted(small.items()):
        write_file(folder / path, data)
    for directory in sorted({(folder / path).parent for path in small}):
        sync(directory)
    listed = {path: (len(data), sha256(data).hexdigest()) for path, data in small.items()}
    write_file(folder / MANIFEST, manifest(child, written, listed | dict(weights)))


def _weights(laid: Layout) -> Mapping[str, tuple[int, str]]:
    """Size of every weight file; the index is small and hashed as a whole."""
    listed = {f"{CHECKPOINT}/{shard.name}": (shard.size, "") for shard in laid.shards}
    if laid.index is not None:
        index = next(file for file in laid.files if file.endswith(".json"))
        digest = sha256(laid.index).hexdigest()
        listed[f"{CHECKPOINT}/{index}"] = (len(laid.index), digest)
    return listed
