"""How fast a checkpoint is cut, beside `cp` of the same bytes, and in how much memory.

    python tests/bench/cut.py [--gib 4] [--repeat 3] [--folder DIR] [--child cut]

Makes a checkpoint of gpt-oss-120b's tensors (embeddings, head and as many of its 36 layers as fill
`--gib`; true shapes and dtypes, MXFP4 blocks and scales, random bytes, shards of 1 GiB) and writes
two children of it as `surgery compile --plan` does, from the plan file to the synced and renamed
folder: all tensors passed through, and every layer with 64 of its 128 experts, drawn by lot. Then
`cp --reflink=never` copies the files of that child. The two take turns; printed are medians.

- hot: what is read is in the page cache, what is written stays in memory (a tmpfs, `--memory`), and
  nothing is synced (`os.fsync` is switched off): what it costs without a disk.
- hot, synced: the same to the disk, with an fsync of every file, for `cp` too.
- cold, synced: what is read has been dropped from the page cache.

Tensors that are copied whole have the parent's hash; what is cut is hashed (SHA-256) as it is
written, by the cores that the writing leaves idle. So the share of the bytes that are hashed is
printed, and what one core hashes in a second: few layers have a small share, because embeddings
and head (2.3 GB) are passed through, and all 36 layers one of 88 %.

Memory is the peak of RssAnon, sampled every 5 ms, of a parent of that size and of one of twice the
layers. Hashing the parent, which happens once per model, is not part of any figure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
from msgspec import Struct

from surgery import arch
from surgery import plan as plans
from surgery.diagnostics import Sink
from surgery.edits import child_outputs
from surgery.ir import Candidate, Plan, Space, Spec, TensorSpec
from surgery.ops import Copy, Output
from surgery.passes import check, emit, expand, replan, resolve
from surgery.tensors.layout import layout

CONFIG = Path(__file__).parents[1] / "golden" / "gpt-oss-120b" / "parent" / "config.json"
SHARD = 2**30
RANDOM = 2**26

SPEC = """surg 1

import "std/moe.surg" as moe

model parent = local("{parent}")

# Read by nobody: lots need a seed, and no text.
dataset lots = local("none.jsonl") {{ take = 1, length = 8 tok, seed = 7 }}

choose experts in layers {{
  keep
  retain 64 by moe.random(lots)
}}

require @some count(layers where experts < 128) <= {cut}

minimize params
"""


# ---- one run, in a process of its own --------------------------------------------------------


class Ready(Struct, frozen=True):
    """A plan that was read and found to fit."""

    spec: Spec
    space: Space
    plan: Plan
    chosen: tuple[Candidate, ...]


def _ready(spec_file: Path) -> Ready:
    """What `compile --plan` does before it writes, less the judgement of the child."""
    from surgery.grammar import parse

    sink, file = Sink(), spec_file.with_suffix(".plan")
    tree = parse.parse(parse.read_source(str(spec_file), sink) or _fail(sink), sink)
    spec = check.run(tree, sink, {}) or _fail(sink)
    model = resolve.run(spec, sink, spec_file.parent / "cache") or _fail(sink)
    space = expand.run(spec, model, sink) or _fail(sink)
    plan = plans.read(file)
    chosen = replan.run(plan, spec, space, str(file), sink) or _fail(sink)
    return Ready(spec, space, plan, chosen)


def _fail(sink: Sink) -> NoReturn:
    raise SystemExit("\n".join(f"{d.code.id}: {d.message}" for d in sink.found))


def _emit(spec_file: Path, out: Path, synced: bool) -> None:
    """Write the child and print seconds and bytes, from plan to renamed folder."""
    ready, sink = _ready(spec_file), Sink()
    if not synced:
        os.fsync = lambda fd: None
    print("ready", flush=True)
    began, busy = time.perf_counter(), time.process_time()
    model = ready.space.model
    made = emit.run(ready.spec, model, ready.space, ready.plan, ready.chosen, out, sink)
    took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - busy}
    if made is None:
        _fail(sink)
    print(json.dumps(took), flush=True)


# ---- the parent ------------------------------------------------------------------------------


def _tensors(layers: int) -> tuple[dict[str, object], tuple[TensorSpec, ...]]:
    config = cast("dict[str, object]", json.loads(CONFIG.read_text(encoding="utf-8")))
    types = cast("list[str]", config["layer_types"])
    config |= {"num_hidden_layers": layers, "layer_types": types[:layers]}
    family = arch.family_of(config)
    sizes = arch.geometry(family, config)
    return config, arch.tensors_of(family, sizes, sizes.layers)


def _layers(gib: float) -> int:
    """How many layers make a parent of about `gib` GiB, embeddings and head included."""
    one, two = (sum(t.nbytes for t in _tensors(n)[1]) for n in (1, 2))
    return max(1, min(36, round((gib * 2**30 - one) / (two - one)) + 1))


def _make(folder: Path, layers: int) -> int:
    """Write a parent with its specs and plans; its bytes."""
    parent = folder / "parent"
    parent.mkdir(parents=True)
    config, tensors = _tensors(layers)
    (parent / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    outputs = [Output(t.name, t.dtype, t.shape, t.nbytes, t.numel, Copy(t.name)) for t in tensors]
    laid = layout(outputs, SHARD)
    noise = np.random.default_rng(0).bytes(RANDOM)
    for shard in laid.shards:
        with (parent / shard.name).open("wb") as file:
            file.write(shard.header)
            for output in shard.outputs:
                left = output.nbytes
                while left:
                    left -= file.write(memoryview(noise)[: min(left, RANDOM - len(output.name))])
    if laid.index is not None:
        (parent / "model.safetensors.index.json").write_bytes(laid.index)
    _sync(parent)
    for name, cut in (("pass", 0), ("cut", layers)):
        spec = folder / f"{name}.surg"
        spec.write_text(SPEC.format(parent=parent, cut=cut), encoding="utf-8")
        command = [sys.executable, "-m", "surgery", "plan", str(spec)]
        environment = os.environ | {"XDG_CACHE_HOME": str(folder / "home")}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        _ready(spec)
    return sum(t.nbytes for t in tensors)


# ---- measuring -------------------------------------------------------------------------------


class Run(Struct, frozen=True):
    """Seconds of one write, those of all threads, and its peak of anonymous memory in bytes."""

    seconds: float
    cpu: float
    anonymous: int = 0


def _surgery(spec: Path, out: Path, synced: bool) -> Run:
    command = [sys.executable, __file__, "--emit", str(spec), str(out)]
    command += ["--synced"] if synced else []
    peak, lines = 0, list[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready", "the child did not get ready"
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.005)
        lines = process.stdout.read().splitlines()
    if process.returncode:
        raise SystemExit(process.returncode)
    took = json.loads(lines[-1])
    return Run(took["seconds"], took["cpu"], peak)


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = status.partition("RssAnon:")[2].split()
    return 1024 * int(found[0]) if found else 0


def _cp(source: Path, out: Path, synced: bool) -> Run:
    began, busy = time.perf_counter(), _children()
    subprocess.run(["cp", "--reflink=never", "-r", str(source), str(out)], check=True)
    if synced:
        _sync(out)
    return Run(time.perf_counter() - began, _children() - busy)


def _children() -> float:
    """CPU seconds of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _sync(folder: Path) -> None:
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache; they must be synced."""
    for path in _files(folder):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _remember(folder: Path) -> None:
    for path in _files(folder):
        with path.open("rb", buffering=0) as file:
            while file.read(2**24):
                pass


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)
    os.sync()


def _hashing() -> float:
    """Gigabytes that one core hashes in a second: the best of 512 times 1 MiB."""
    data, best = bytes(2**20), 0.0
    for _ in range(512):
        began = time.perf_counter()
        hashlib.sha256(data)
        best = max(best, len(data) / 1e9 / (time.perf_counter() - began))
    return best


class Pair(Struct, frozen=True):
    """One run of each, straight after the other."""

    ours: Run
    cp: Run


def _pairs(
    folder: Path, name: str, mode: tuple[bool, bool], repeat: int, memory: str
) -> list[Pair]:
    """Runs of one child in turn with `cp`; `mode` is whether to read hot, and to sync."""
    hot, synced = mode
    child = folder / f"{name}-child"
    place = folder if synced or not memory else Path(memory)
    out, copy = place / "surgery-cut-out", place / "surgery-cut-copy"
    if not child.exists():
        _surgery(folder / f"{name}.surg", child, synced=True)
    found: list[Pair] = []
    prepare = _remember if hot else _forget

    def ours() -> Run:
        prepare(folder / "parent")
        run = _surgery(folder / f"{name}.surg", out, synced)
        _remove(out)
        return run

    def theirs() -> Run:
        prepare(child)
        run = _cp(child, copy, synced)
        _remove(copy)
        return run

    for turn in range(repeat):
        if turn % 2:
            second = theirs()
            found.append(Pair(ours(), second))
        else:
            first = ours()
            found.append(Pair(first, theirs()))
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the parent and its children go")
    parser.add_argument("--memory", default="/dev/shm", help='a tmpfs; "" to do without')
    parser.add_argument("--only", default="", help="one of the three rows")
    parser.add_argument("--child", choices=CHILDREN, help="one of the two, not both")
    parser.add_argument("--emit", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--synced", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.emit:
        spec, out = cast("list[Path]", given.emit)
        _emit(spec, out, given.synced)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        modes = [mode for mode in MODES if given.only in ("", mode[0])]
        names = [given.child] if given.child else list(CHILDREN)
        _report(Path(folder), _layers(given.gib), given.repeat, given.memory, modes, names)


CHILDREN = {"pass": "pass-through", "cut": "64 of 128 experts"}
"""What is written, by the name of its spec."""
MODES = (("hot", True, False), ("hot, synced", True, True), ("cold, synced", False, True))
"""Title, whether what is read is in the page cache, whether what is written is synced."""


def _report(
    folder: Path,
    layers: int,
    repeat: int,
    memory: str,
    modes: list[tuple[str, bool, bool]],
    names: list[str],
) -> None:
    small = folder / "small"
    size = _make(small, layers)
    print(f"parent: {layers} layers of gpt-oss-120b, {size:,} bytes")
    print(f"SHA-256 of one of {os.cpu_count()} cores: {_hashing():.2f} GB/s")
    head = f"{'bytes written':>30} {'surgery':>10} {'cp':>10} {'ratio':>6} {'CPU':>11}"
    head += f"{'cp':>10}   ratio of each pair"
    print(head, flush=True)
    peaks: dict[str, int] = {}
    for name in names:
        ready = _ready(small / f"{name}.surg")
        outputs = child_outputs(ready.space.model, ready.chosen)
        written = sum(o.nbytes for o in outputs)
        cut = sum(o.nbytes for o in outputs if not isinstance(o.op, Copy))
        print(f"{CHILDREN[name]}: {cut / written:.0%} of the bytes are hashed")
        for label, hot, synced in modes:
            pairs = _pairs(small, name, (hot, synced), repeat, memory)
            peaks[name] = max(peaks.get(name, 0), *(p.ours.anonymous for p in pairs))
            print(f"  {label:<13} {_line(pairs, written)}", flush=True)
    _memory(folder, layers, peaks)


def _line(pairs: list[Pair], written: int) -> str:
    """Medians of both, of their ratios, and the CPU time of a gigabyte; then every ratio."""
    ours, cp = ([written / 1e9 / r.seconds for r in column] for column in _columns(pairs))
    ratios = [a / b for a, b in zip(ours, cp, strict=True)]
    a, b, c = (statistics.median(values) for values in (ours, cp, ratios))
    cpu = [1e9 * statistics.median(r.cpu for r in column) / written for column in _columns(pairs)]
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    return (
        f"{written:>14,} {a:>5.2f} GB/s {b:>5.2f} GB/s {c:>6.2f}   "
        f"{cpu[0]:.2f} s/GB {cpu[1]:.2f} s/GB   {each}"
    )


def _columns(pairs: list[Pair]) -> tuple[list[Run], list[Run]]:
    return [pair.ours for pair in pairs], [pair.cp for pair in pairs]


def _memory(folder: Path, layers: int, peaks: dict[str, int]) -> None:
    _remove(folder / "small")
    size = _make(folder / "large", 2 * layers)
    print(f"peak of anonymous memory; a parent of {2 * layers} layers has {size:,} bytes")
    for name, peak in peaks.items():
        large = _surgery(folder / "large" / f"{name}.surg", folder / "out", synced=True)
        _remove(folder / "out")
        twice = _mib(large.anonymous)
        print(f"  {CHILDREN[name]:<20} {_mib(peak)} at {layers} layers, {twice} at twice")


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


if __name__ == "__main__":
    main()
