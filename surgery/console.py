"""What the command line prints: findings, progress, exit codes, reports of a run.

In: sinks, plans, paths. Out: text and numbers for `cli.py`. Not here: the layouts of
plans and diffs (`show.py`), of diagnostics (`render.py`) and of a finished run (`report.py`).
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from surgery import atomic, catalog
from surgery.diagnostics import Diagnostic, Help, Severity, Sink, Stop
from surgery.ir import Plan

_UNDECIDED = frozenset(
    {
        catalog.E0001,
        catalog.E0002,
        catalog.E0004,
        catalog.E0005,
        catalog.E0012,
        catalog.E0208,
        catalog.E0707,
        catalog.E0802,
        catalog.E0803,
        catalog.E0806,
        catalog.E0807,
    }
)
"""Findings about usage, files and disks: surgery could not tell (exit code 2)."""


def exit_code(sink: Sink) -> int:
    """0 without errors, 2 when an error is about usage, files or disk, else 1."""
    errors = [d for d in sink.found if d.severity is Severity.ERROR]
    if not errors:
        return 0
    return 2 if any(d.code in _UNDECIDED for d in errors) else 1


def plural(count: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def bad_setting(text: str) -> Diagnostic:
    """What is wrong with a `--set` that has no `=`."""
    return Diagnostic(
        catalog.E0208,
        f"`--set {text}` gives no value",
        subject="the command line",
        helps=(Help("write `--set NAME=VALUE`, for example `--set share=70%`"),),
    )


def set_twice(name: str) -> Diagnostic:
    """What is wrong with two `--set`s of one input."""
    return Diagnostic(
        catalog.E0208,
        f"`--set {name}=...` is given twice",
        subject="the command line",
        helps=(Help("give every input one value"),),
    )


def program() -> str:
    """How this surgery was called, for commands to type next."""
    called = sys.argv[0]
    return shlex.quote(called) if Path(called).name == "surgery" else "surgery"


def python() -> str:
    """How its interpreter is called: beside the program where it has a path, else by name."""
    called = Path(sys.argv[0])
    beside = called.with_name("python")
    found = called.name == "surgery" and called.parent != Path() and beside.exists()
    return shlex.quote(str(beside)) if found else "python"


def findings(sink: Sink, layout: str) -> str:
    """All findings of a run in one of the layouts of `render.py`."""
    from surgery import render

    found = sink.sorted()
    if not found and layout != "json":
        return ""
    return render.render(found, render.Format(layout), colour=sys.stderr.isatty())


def check_plan_target(path: Path) -> None:
    """Raise `Stop` where a plan must not or cannot be written; an older plan may be replaced."""
    message, code = "", catalog.E0806
    if path.is_dir():
        message = f"cannot write the plan: `{path}` is a folder"
    elif not path.parent.is_dir():
        message = f"cannot write the plan: there is no folder `{path.parent}`"
    elif path.is_file():
        with path.open("rb") as file:
            if not file.read(13).startswith(b"surgery-plan "):
                message, code = f"`{path}` exists and is not a plan", catalog.E0802
    if message:
        raise Stop(Diagnostic(code, message, subject=str(path)))


def write_plan(plan: Plan, path: Path, spec: Path) -> None:
    """Write the plan file of a spec, whole or not at all.

    Raises `Stop`: E0806, also in the place of a plan that this one measures its distance from.
    """
    from surgery import lockfile

    if path.resolve() in {(spec.parent / name).resolve() for name, _ in plan.plans}:
        message = "cannot write the plan: the spec measures its distance from the one that is there"
        helps = (Help("write it elsewhere, with `-o`"),)
        raise Stop(Diagnostic(catalog.E0806, message, subject=str(path), helps=helps))
    try:
        atomic.write(path, lockfile.text(plan).encode())
    except OSError as error:
        reason = (error.strerror or "it cannot be written").lower()
        message = f"cannot write the plan: {reason}"
        raise Stop(Diagnostic(catalog.E0806, message, subject=str(path))) from error


def cache_folder() -> Path:
    """Where imported models are kept between runs."""
    from surgery.sources import default_cache

    return default_cache()


class Progress:
    """Prints `pass  done/total  detail  left` on stderr: in place on a terminal, else sparsely."""

    def __init__(self) -> None:
        self._pass = ""
        self._began = 0.0
        self._said = 0.0
        self._live = sys.stderr.isatty()

    def __call__(self, name: str, done: int, total: int, detail: str) -> None:
        """Report that `done` of `total` steps of pass `name` are through."""
        now = time.monotonic()
        if name != self._pass:
            self._pass, self._began, self._said = name, now, -1e9
        last = done >= total
        if not last and now - self._said < (0.1 if self._live else 10.0):
            return
        self._said = now
        left = (now - self._began) / done * (total - done) if 0 < done < total else 0.0
        ahead = f"  {_duration(left)} left" if left >= 1 else ""
        line = f"{name:<10} {done} of {total}  {detail}{ahead}"
        if self._live:
            print(f"\r\x1b[K{line}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def cannot_print(error: OSError) -> None:
    """Say on stderr that the answer could not be printed."""
    reason = (error.strerror or str(error)).lower()
    print(f"error: cannot write the answer: {reason}", file=sys.stderr)
    # What is still buffered would fail again, loudly, when the interpreter exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def internal_error(bug: BaseException) -> None:
    """Say on stderr that surgery has a bug; the traceback only with SURGERY_TRACEBACK=1."""
    where = "; ".join(getattr(bug, "__notes__", ())) or "outside of the passes"
    print(f"internal error: {type(bug).__name__}: {bug} ({where})", file=sys.stderr)
    print("This is a bug in surgery, not in your spec. Please report it with", file=sys.stderr)
    print("the output of the same command under SURGERY_TRACEBACK=1.", file=sys.stderr)
    if os.environ.get("SURGERY_TRACEBACK"):
        import traceback

        traceback.print_exception(bug, file=sys.stderr)
