"""What the command line prints: findings, progress, exit codes, reports of a run.

In: sinks, plans, paths. Out: text and numbers for `cli.py`. Not here: the layouts of
plans and diffs (`show.py`), of diagnostics (`render.py`) and of a finished run (`report.py`).
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Severity, Sink, Stop
from surgery.ir import Plan

_UNDECIDED = frozenset(
    {
        catalog.E0001,
        catalog.E0002,
        catalog.E0004,
        catalog.E0005,
        catalog.E0208,
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


def findings(sink: Sink, layout: str) -> str:
    """All findings of a run in one of the layouts of `render.py`."""
    from surgery import render

    found = sink.sorted()
    if not found:
        return ""
    return render.render(found, render.Format(layout), colour=sys.stderr.isatty())


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan file, whole or not at all. Raises `Stop` (E0806)."""
    from surgery import lockfile

    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staged.write_text(lockfile.text(plan), encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        reason = (error.strerror or "it cannot be written").lower()
        message = f"cannot write the plan: {reason}"
        raise Stop(Diagnostic(catalog.E0806, message, subject=str(path))) from error


def cache_folder() -> Path:
    """Where imported models are kept between runs: `$XDG_CACHE_HOME/surgery`."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "surgery"


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


def internal_error(bug: BaseException) -> None:
    """Say on stderr that surgery has a bug; the traceback only with SURGERY_TRACEBACK=1."""
    where = "; ".join(getattr(bug, "__notes__", ())) or "outside of the passes"
    print(f"internal error: {type(bug).__name__}: {bug} ({where})", file=sys.stderr)
    print("This is a bug in surgery, not in your spec. Please report it with", file=sys.stderr)
    print("the output of the same command under SURGERY_TRACEBACK=1.", file=sys.stderr)
    if os.environ.get("SURGERY_TRACEBACK"):
        traceback.print_exception(bug, file=sys.stderr)
