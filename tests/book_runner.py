"""Runs a section of the book in a folder of its own and says what differs.

In: a `Section`, an empty folder, the session's tiny parents. Out: an `Outcome`: failures (each
begins with file and line), snapshots that are stale, and the renderings that were printed. Writes
only inside the folder. What the kinds of blocks mean stands in `tests/book/README.md`.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from book_chapters import Block, Section
from msgspec import Struct, field

from surgery import console, pipeline, render
from surgery.commands import options
from surgery.diagnostics import Diagnostic, Sink
from surgery.formatting import format_text
from surgery.grammar.parse import read_source
from surgery.linting import levels
from surgery.linting import run as run_lint
from surgery.progress import silent
from surgery.source import Source

LIBRARY = Path(".surgery/library")

_MARK = r'#\s*(error|warning|note):\s*\[([EWN]\d{4})\](?:\s*"((?:[^"\\]|\\.)*)")?'
_MARKS = re.compile(rf"\s*{_MARK}(?:\s*{_MARK})*\s*$")
_ONE = re.compile(_MARK)


class Outcome(Struct):
    """What running a section showed."""

    failures: list[str] = field(default_factory=list[str])
    stale: dict[int, str] = field(default_factory=dict[int, str])
    """Place of a snapshot block in the section -> the text it should have."""
    printed: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Code -> its full renderings, each of which a snapshot of the section shows."""

    def complaints(self, section: Section) -> list[str]:
        """All that is wrong, one text each, failures first."""
        stale = [
            f"{section.place(section.blocks[place].line)}: this snapshot is stale "
            f"(`--update-golden` renews it); now it is\n{text}"
            for place, text in self.stale.items()
        ]
        return self.failures + stale


class Expected(Struct, frozen=True):
    """One `# error: [E0408] "text"`; `line` is where the chapter says it."""

    severity: str
    code: str
    text: str
    line: int


class _File(Struct):
    """A text as it is written, and the line of the chapter that each of its lines comes from."""

    lines: list[str] = field(default_factory=list[str])
    origins: list[int] = field(default_factory=list[int])
    expected: dict[int, list[Expected]] = field(default_factory=dict[int, list[Expected]])

    def add(self, text: str, first: int) -> None:
        """Append `text`, whose first line is line `first` of the chapter."""
        waiting: list[Expected] = []
        for origin, line in enumerate(text.splitlines(), first):
            marks = _MARKS.search(line)
            # The marks are no part of the file; a line of nothing else speaks of the next line.
            kept = line[: marks.start()] if marks else line
            waiting += _expectations(line[len(kept) :], origin)
            if marks and not kept.strip():
                continue
            self.lines.append(kept)
            self.origins.append(origin)
            if waiting:
                self.expected[len(self.lines)] = waiting
                waiting = []

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def _expectations(marks: str, line: int) -> list[Expected]:
    return [
        Expected(severity, code, text.replace('\\"', '"'), line)
        for severity, code, text in _ONE.findall(marks)
    ]


def run(section: Section, folder: Path, parents: Path) -> Outcome:
    """Run `section` in `folder`, which has links to the entries of `parents`."""
    for entry in sorted(parents.iterdir()):
        (folder / entry.name).symlink_to(entry)
    outcome = Outcome()
    caches = {"HF_HOME": ".hf", "XDG_CACHE_HOME": ".cache"}
    settings = {name: str(folder / place) for name, place in caches.items()} | {"COLUMNS": "80"}
    with (
        contextlib.chdir(folder),
        pytest.MonkeyPatch.context() as patch,
        _recording(section, outcome),
    ):
        for name, value in settings.items():
            patch.setenv(name, value)
        # How long measuring takes is no part of an answer.
        patch.setattr(console, "Progress", lambda: silent)
        _Run(section, outcome).all()
    return outcome


@contextlib.contextmanager
def _recording(section: Section, outcome: Outcome) -> Generator[None]:
    """Note every full rendering that is asked for while the section runs, and keep those shown."""
    original, seen = render.full, list[tuple[str, str]]()

    def full(diagnostic: Diagnostic, *, colour: bool = False) -> str:
        text = original(diagnostic, colour=colour)
        seen.append((diagnostic.code.id, text))
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "full", full)
        yield
    shown = [outcome.stale.get(place, block.text) for place, block in enumerate(section.blocks)]
    for code, text in seen:
        if any(text in each for each in shown):
            outcome.printed.setdefault(code, []).append(text)


class _Run:
    """A section on its way: the files written so far and the findings of its latest spec."""

    def __init__(self, section: Section, outcome: Outcome) -> None:
        self.section = section
        self.outcome = outcome
        self.files: dict[str, _File] = {}
        self.spec = "spec.surg"
        self.mode = "plan"
        self.unsettled = False
        self.found: tuple[Diagnostic, ...] = ()
        self.unplaced: list[Diagnostic] = []
        self.printed: str | None = None

    def all(self) -> None:
        """Run every block in order."""
        for place, block in enumerate(self.section.blocks):
            if not (block.kind == "file" or (block.kind == "surg" and "append" in block.words)):
                self._settle()
            if self.printed and block.kind != "output":
                self._fail(block.line, "the `python` block before prints: it needs an `output`")
            self._kinds()[block.kind](place, block)
        self._settle()
        self._all_placed()
        if self.printed:
            self._fail(self.section.blocks[-1].line, "what this prints needs an `output` block")

    def _kinds(self) -> dict[str, Callable[[int, Block], None]]:
        return {
            "surg": self._surg,
            "file": self._file,
            "diagnostic": self._diagnostic,
            "console": self._console,
            "python": self._python,
            "output": self._output,
            "format": self._format,
        }

    def _fail(self, line: int, message: str) -> None:
        self.outcome.failures.append(f"{self.section.place(line)}: {message}")

    def _compare(self, place: int, block: Block, actual: str) -> None:
        text = actual if actual.endswith("\n") or not actual else f"{actual}\n"
        if text != block.text:
            self.outcome.stale[place] = text

    # ---- files -------------------------------------------------------------------------------

    def _surg(self, _place: int, block: Block) -> None:
        names = [word for word in block.words if word.endswith(".surg")]
        flags = [word for word in block.words if not word.endswith(".surg")]
        unknown = sorted(set(flags) - {"append", "lint", "check", "alone", "import"})
        if unknown:
            self._fail(block.line, f"`surg` blocks know no `{unknown[0]}`")
        name = names[0] if names else self.spec if "append" in flags else "spec.surg"
        if "append" not in flags:
            self._all_placed()
            self.files[name] = _File()
            self._preamble(name, block, flags)
        file = self.files.setdefault(name, _File())
        file.add(block.text, block.line + 1)
        self._write(name, file.text)
        if "import" in flags:
            return
        self.spec, self.unsettled = name, True
        if "append" not in flags or {"lint", "check"} & set(flags):
            self.mode = next((f for f in flags if f in ("lint", "check")), "plan")

    def _preamble(self, name: str, block: Block, flags: list[str]) -> None:
        """What a snippet that is no whole spec stands below."""
        preamble = self.section.preamble
        whole = re.match(r"(\s*(#.*)?\n)*surg\b", block.text) is not None
        if preamble and not whole and not {"alone", "import"} & set(flags):
            self.files[name].add(preamble.text, preamble.line + 1)
            self.files[name].add("\n", block.line)

    def _file(self, _place: int, block: Block) -> None:
        if len(block.words) != 1:
            self._fail(block.line, "a `file` block names one path")
            return
        self._write(block.words[0], block.text)

    def _write(self, name: str, text: str) -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")

    # ---- findings ----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Look for the findings of the latest spec, and compare them with what it says itself."""
        if not self.unsettled:
            return
        self.unsettled = False
        self.found = findings(self.spec, self.mode)
        self.unplaced = [each for each in self.found if each.primary is None]
        places: dict[tuple[str, int], list[Diagnostic]] = {}
        for each in self.found:
            if each.primary is not None:
                span = each.primary.span
                places.setdefault((span.source.name, span.first.line), []).append(each)
        for name, file in self.files.items():
            for line, expected in file.expected.items():
                self._line(expected, places.pop((name, line), []), expected[0].line)
        for (name, line), found in places.items():
            file = self.files.get(name)
            known = file is not None and line <= len(file.origins)
            origin = file.origins[line - 1] if file and known else self.section.blocks[0].line
            self._line([], found, origin)

    def _line(self, expected: list[Expected], found: list[Diagnostic], origin: int) -> None:
        """Every expectation of a line has its finding, and every finding its expectation."""
        left = list(found)
        for each in sorted(expected, key=lambda e: -len(e.text)):
            match = next((d for d in left if _fits(each, d)), None)
            if match is None:
                said = f'{each.severity}[{each.code}] "{each.text}"'
                self._fail(each.line, f"expected {said} on this line, which does not find it")
            else:
                left.remove(match)
        for each in left:
            self._fail(origin, f"unexpected finding: {render.concise(each)}")

    def _all_placed(self) -> None:
        """A finding without a line must be shown: by a `diagnostic` block or a transcript."""
        for each in self.unplaced:
            self._fail(self.section.blocks[0].line, f"unexpected finding: {render.concise(each)}")
        self.unplaced = []

    def _diagnostic(self, place: int, block: Block) -> None:
        self.unplaced = []
        self._compare(place, block, render.render(self.found))

    def _format(self, place: int, block: Block) -> None:
        text = self.files[self.spec].text if self.spec in self.files else ""
        sink = Sink()
        formatted = format_text(Source(self.spec, text), sink)
        if formatted is None:
            self._fail(block.line, f"this cannot be formatted:\n{render.render(sink.sorted())}")
        self._compare(place, block, formatted or "")

    # ---- programs ----------------------------------------------------------------------------

    def _console(self, place: int, block: Block) -> None:
        self.unplaced = []
        commands = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
        if not commands:
            self._fail(block.line, "a `console` block needs a line `$ surgery ...`")
            return
        self._compare(place, block, "\n".join(self._answer(block, each) for each in commands))

    def _answer(self, block: Block, command: str) -> str:
        program, *words = shlex.split(command)
        text = ""
        if len(words) > 1 and words[-2] == "<":
            text = Path(words.pop()).read_text(encoding="utf-8")
            words.pop()
        code = 0
        if program == "surgery":
            out, err, code = surgery(words, text)
        elif program == "cat":
            out, err = Path(words[0]).read_text(encoding="utf-8"), ""
        else:
            self._fail(block.line, f"transcripts run `surgery` and `cat`, not `{program}`")
            return f"$ {command}\n"
        if err.startswith("internal error"):
            self._fail(block.line, f"`{command}` ends in a bug:\n{err}")
        ending = f"[exit {code}]\n" if code else ""
        return f"$ {command}\n{_ended(out)}{_ended(err)}{ending}"

    def _python(self, _place: int, block: Block) -> None:
        out = io.StringIO()
        # So that a traceback can say where in the chapter it was.
        text = "\n" * block.line + block.text
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(text, str(self.section.chapter), "exec"), {"__name__": "book"})
        except Exception:
            self._fail(block.line, f"this block raises\n{traceback.format_exc()}")
        self.printed = _ended(out.getvalue().rstrip("\n"))

    def _output(self, place: int, block: Block) -> None:
        if self.printed is None:
            self._fail(block.line, "an `output` block follows a `python` block")
        self._compare(place, block, self.printed or "")
        self.printed = None


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def _fits(expected: Expected, found: Diagnostic) -> bool:
    return (
        found.severity.word == expected.severity
        and found.code.id == expected.code
        and expected.text in found.message
    )


def findings(spec: str, mode: str) -> tuple[Diagnostic, ...]:
    """What `check`, `lint`, or `plan` before it measures, finds in the file `spec`."""
    sink, cache = options.sink_for(spec), console.cache_folder()
    match mode:
        case "lint":
            sink = Sink()
            source = read_source(spec, sink)
            where = run_lint.Options(cache, LIBRARY, levels=levels.of(spec, sink))
            sink.extend(run_lint.lint(source, where).findings if source else ())
        case "check":
            pipeline.check(spec, sink, pipeline.Options(LIBRARY, cache))
        case _:
            pipeline.foresee(spec, sink, pipeline.Options(LIBRARY, cache))
    return sink.sorted()


def surgery(words: list[str], text: str = "") -> tuple[str, str, int]:
    """Run the command line in this process: what it prints, and its exit code."""
    from surgery.cli import main

    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["surgery", *words])
        patch.setattr(sys, "stdin", given)
        code = main(words)
    return out.getvalue(), err.getvalue(), code
