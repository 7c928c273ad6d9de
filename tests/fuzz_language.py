"""Whatever is handed to the compiler ends in diagnostics: `python tests/fuzz_language.py`.

In: `--count` inputs from a `--seed`, made by `spec_mutations.py` out of every spec of the project.
Each is read from a file, parsed, checked, linted, formatted, and all findings are rendered in all
layouts. Out: counts, the slowest inputs, and every input that raised, would keep a command busy for
more than a second of processor time, or was answered with nonsense: a finding that points outside
of the text, edits that overlap, a second layout that differs from the first. Exit code 1 if there
is one; `--keep DIR` writes them down.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType

from msgspec import Struct
from spec_mutations import KINDS, make
from spec_texts import OSS, SMOL

from surgery.diagnostics import Diagnostic, Severity, Sink
from surgery.formatting import format_text
from surgery.grammar.parse import read_source
from surgery.linting import run
from surgery.render import Format, render
from surgery.source import Source

LIMIT = 1.0
"""Seconds of processor time that a command may take for any input."""
_HANGS = 60.0

ROOT = Path(__file__).parent.parent


class Outcome(Struct, frozen=True):
    """What became of one input; `wrong` is empty when all is well."""

    number: int
    kind: str
    seconds: float
    errors: int
    warnings: int
    slowest: str
    wrong: str = ""


class Watch:
    """Times the steps of one input."""

    def __init__(self) -> None:
        self.last = time.process_time()
        self.steps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """A step has ended."""
        now = time.process_time()
        self.steps[name] = self.steps.get(name, 0.0) + now - self.last
        self.last = now

    def skip(self) -> None:
        """What came last was no step, but a look at its result."""
        self.last = time.process_time()

    @property
    def seconds(self) -> float:
        """What the slower of two commands takes: linting and one layout, or formatting."""
        layouts = max((self.steps.get(layout.value, 0.0) for layout in Format), default=0.0)
        linting = self.steps.get("lint", 0.0) + layouts
        return self.steps.get("read", 0.0) + max(linting, self.steps.get("fmt", 0.0))

    @property
    def slowest(self) -> str:
        """The step that took longest."""
        return max(self.steps, key=lambda name: self.steps[name], default="")


def texts() -> tuple[str, ...]:
    """Every spec there is to mutate, in an order of their own."""
    paths = (*ROOT.glob("specs/**/*.surg"), *ROOT.glob("surgery/std/*.surg"))
    book = (path.read_text("utf-8") for path in sorted(ROOT.glob("tests/book/*.md")))
    blocks = (
        block for page in book for block in re.findall(r"```surg[^\n]*\n(.*?)```", page, re.S)
    )
    whole = sorted(path.read_text("utf-8") for path in paths)
    return (OSS, SMOL, *whole, *(block for block in blocks if block.strip()))


def through(data: bytes, path: Path, watch: Watch) -> Sink:
    """Every step that reads a spec; raises what a step raises, and on nonsense."""
    path.write_bytes(data)
    sink = Sink()
    source = read_source(path, sink)
    watch.lap("read")
    if source is not None:
        sink.extend(run.lint(source, run.Options(path.parent / "cache")).findings)
        watch.lap("lint")
        text = format_text(source, Sink())
        watch.lap("fmt")
        if text is not None:
            again = format_text(Source(source.name, text), Sink())
            assert again == text, "the second layout differs from the first"
    for each in sink.found:
        _sound(each)
    watch.skip()
    for layout in Format:
        render(sink.sorted(), layout, colour=layout is Format.FULL)
        watch.lap(layout.value)
    return sink


def _sound(found: Diagnostic) -> None:
    """A finding points into its text, and the edits of a fix do not overlap."""
    spans = [label.span for label in found.labels]
    for fix in (help.fix for help in found.helps if help.fix):
        assert fix.edits, f"a fix of {found.code.id} changes nothing"
        places = [edit.span for edit in fix.edits]
        spans += places
        for one, two in pairwise(places):
            assert one.end <= two.start, f"the edits of a fix of {found.code.id} overlap"
    for span in spans:
        inside = 0 <= span.start <= span.end <= len(span.source.text)
        assert inside, f"{found.code.id} points outside of the text"
    assert found.message, found.code.id
    assert sum(label.primary for label in found.labels) == bool(found.labels), found.code.id


def outcome(number: int, kind: str, data: bytes, folder: Path) -> Outcome:
    """What becomes of one input, whatever it is."""
    watch = Watch()
    wrong, found = "", Sink()
    try:
        found = through(data, folder / "spec.surg", watch)
    except (Exception, Hanging):
        wrong = traceback.format_exc(limit=-6)
    watch.lap("raised")
    if not wrong and watch.seconds > LIMIT:
        steps = ", ".join(f"{name} {took:.2f}" for name, took in watch.steps.items() if took > 0.05)
        wrong = f"too slow: {steps}"
    errors = sum(each.severity is Severity.ERROR for each in found.found)
    others = len(found.found) - errors
    return Outcome(number, kind, watch.seconds, errors, others, watch.slowest, wrong)


# ---- many of them ----------------------------------------------------------------------------


class Hanging(BaseException):
    """An input keeps the processor busy for a minute."""


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise Hanging


def _some(task: tuple[int, int, int]) -> list[Outcome]:
    """The outcomes of the inputs from one number up to another."""
    start, end, seed = task
    # Nothing may ask the network; if something does, it fails at once.
    os.environ["HF_HUB_OFFLINE"] = "1"
    signal.signal(signal.SIGPROF, _hangs)
    done: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(start, end):
            kind, data = make(number, seed, _texts())
            signal.setitimer(signal.ITIMER_PROF, _HANGS)
            done.append(outcome(number, kind, data, Path(folder)))
            signal.setitimer(signal.ITIMER_PROF, 0)
    return done


_TEXTS: list[tuple[str, ...]] = []


def _texts() -> tuple[str, ...]:
    if not _TEXTS:
        _TEXTS.append(texts())
    return _TEXTS[0]


def outcomes(first: int, count: int, seed: int, jobs: int) -> Iterator[Outcome]:
    """The outcomes of `count` inputs, in their order."""
    step = 50
    tasks = [(n, min(n + step, first + count), seed) for n in range(first, first + count, step)]
    # Before there are other processes: all must start from the same specs.
    _texts()
    if jobs == 1:
        for task in tasks:
            yield from _some(task)
        return
    with multiprocessing.Pool(jobs) as pool:
        for done in pool.imap(_some, tasks):
            yield from done


def main() -> int:
    """Run as many inputs as the options ask for; whether one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write what went wrong into this folder")
    options = parser.parse_args()
    report = Report(options.seed, options.keep, print)
    for done in outcomes(options.first, options.count, options.seed, options.jobs):
        report.add(done)
    report.close()
    return 1 if report.wrong else 0


class Report:
    """Counts, and the inputs worth a look."""

    def __init__(self, seed: int, keep: Path | None, say: Callable[[str], None]) -> None:
        self.seed = seed
        self.keep = keep
        self.say = say
        self.count: Counter[str] = Counter()
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self.ends: Counter[str] = Counter()
        self.slow: list[Outcome] = []
        self.wrong = 0

    def add(self, done: Outcome) -> None:
        """One more input."""
        self.count[done.kind] += 1
        self.seconds[done.kind] += done.seconds
        word = "errors" if done.errors else "warnings" if done.warnings else "nothing"
        self.ends["gone wrong" if done.wrong else word] += 1
        self.slow = sorted([*self.slow, done], key=lambda each: -each.seconds)[:5]
        if done.wrong:
            self.wrong += 1
            self.say(f"input {done.number} ({done.kind}), {done.seconds:.2f} s: {done.wrong}")
            if self.keep is not None:
                self.keep.mkdir(parents=True, exist_ok=True)
                kind, data = make(done.number, self.seed, _texts())
                (self.keep / f"{kind}-{done.number}.surg").write_bytes(data)
        total = self.count.total()
        if total % 5000 == 0:
            self.say(f"... {total} inputs, {self.wrong} gone wrong")

    def close(self) -> None:
        """The figures."""
        total = self.count.total()
        ends = ", ".join(f"{count} {word}" for word, count in self.ends.most_common())
        self.say(f"\n{total} inputs of seed {self.seed}: {ends}")
        for kind in KINDS:
            if count := self.count[kind]:
                mean = self.seconds[kind] / count * 1e3
                self.say(f"  {kind:<20}{count:>8}{mean:>10.1f} ms each")
        self.say("the slowest:")
        for each in self.slow:
            what = f"{each.seconds:.2f} s in all, most in {each.slowest}"
            self.say(f"  input {each.number} ({each.kind}): {what}")


if __name__ == "__main__":
    sys.exit(main())
