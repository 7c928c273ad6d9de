"""How long one waits: for a check, for an editor, for a command. `python tests/bench/editor.py`.

In: nothing but options. Out: three tables. The texts differ between repetitions, so that nothing
can answer from what it answered before; a small loop of pure Python is timed in between, and tells
how busy the machine was (it takes 3 ms on a quiet core of 2024).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from long_spec import long_spec
from rpc import Client

from surgery.diagnostics import Severity, Sink
from surgery.grammar.parse import parse
from surgery.linting import run
from surgery.passes import check
from surgery.source import Source

ROOT = Path(__file__).parent.parent.parent
QUICKSTART = ROOT / "specs" / "quickstart.surg"


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=21, help="repetitions of everything")
    parser.add_argument("--only", choices=("process", "server", "cold"), help="one table")
    options = parser.parse_args()
    tables = {"process": in_process, "server": over_stdio, "cold": from_cold}
    for name, table in tables.items():
        if options.only in (None, name):
            table(options.count)
            print()


def show(name: str, times: Sequence[float], note: str = "") -> None:
    """One row, in milliseconds."""
    ordered = sorted(times)
    middle, slow = statistics.median(ordered), ordered[int(0.9 * (len(ordered) - 1))]
    row = f"{name:<34}{ordered[0]:>9.1f}{middle:>9.1f}{slow:>9.1f}   {note}"
    print(row.rstrip())


def heading(title: str) -> None:
    """The head of a table."""
    print(f"{title:<34}{'least':>9}{'median':>9}{'p90':>9}   ms")


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of wall clock."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


def reference() -> None:
    """The loop that tells how busy the machine is."""
    table: dict[int, tuple[int, str]] = {}
    for i in range(20_000):
        table[i % 97] = (i, str(i))


# ---- in this process -------------------------------------------------------------------------


def in_process(count: int) -> None:
    """Read, check and lint a long spec, warm."""
    texts = [long_spec(number) for number in range(count + 2)]
    with tempfile.TemporaryDirectory() as cache:
        options = run.Options(Path(cache))
        steps: dict[str, list[float]] = {}
        for text in texts:
            source, sink = Source("long.surg", text), Sink()
            tree = parse(source, Sink())
            for name, work in (
                ("a loop of pure Python", reference),
                ("parse", partial(parse, Source("long.surg", text), Sink())),
                ("check", partial(check.run, tree, sink, {})),
                ("parse + check + lint", partial(run.lint, Source("long.surg", text), options)),
            ):
                steps.setdefault(name, []).append(timed(work))
            assert all(each.severity is not Severity.ERROR for each in sink.found), sink.found
    lines, statements = texts[0].count("\n"), len(parse(Source("", texts[0]), Sink()).items)
    heading(f"{lines} lines, {statements} statements, warm")
    for name, times in steps.items():
        show(name, times[2:])


# ---- the server ------------------------------------------------------------------------------


def over_stdio(count: int) -> None:
    """Type into a long spec, and ask for completions, in a real server."""
    with tempfile.TemporaryDirectory() as folder, Client(ROOT, Path(folder)) as client:
        text = long_spec(0)
        uri = (Path(folder) / "long.surg").as_uri()
        first = timed(lambda: client.open(uri, text))
        lines = text.splitlines()
        places = [n for n, line in enumerate(lines) if line.startswith("let share_")]
        keys: list[float] = []
        completions: list[float] = []
        for number in range(count + 3):
            line = places[number % len(places)]
            # A digit more in a number, as one types it.
            column = lines[line].index("=") + 4
            keys.append(timed(partial(client.insert, uri, line, column, "1")))
            completions.append(timed(partial(client.complete, uri, line, column)))
        heading("the server, over stdio")
        show("open", [first])
        show("key typed -> diagnostics", keys[3:])
        show("completion", completions[3:])


# ---- commands --------------------------------------------------------------------------------


def from_cold(count: int) -> None:
    """Whole commands, from the start of the process to its end."""
    surgery = str(Path(sys.executable).with_name("surgery"))
    spec = str(QUICKSTART.relative_to(ROOT))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "surgery --help": [surgery, "--help"],
        "surgery check quickstart.surg": [surgery, "check", spec],
        "surgery lint quickstart.surg": [surgery, "lint", spec],
        "surgery fmt --check quickstart.surg": [surgery, "fmt", "--check", spec],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    # As installed: with the bytecode that pip, or the first start, leaves behind.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(count + 1):
        for name, command in commands.items():
            work = partial(subprocess.run, command, cwd=ROOT, env=environment)
            times[name].append(timed(partial(work, check=True, capture_output=True)))
    heading("commands, cold")
    for name, each in times.items():
        show(name, each[1:])


if __name__ == "__main__":
    main()
