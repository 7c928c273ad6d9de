"""`surgery lint [SPEC ...]`: what could be better about a spec, and making it so.

In: specs, folders of specs, or `-` for stdin. Out: findings on stdout in any layout, one line of
summary on stderr; with `--fix` mended files, with `--diff` what would be mended. Exit code 0 means
clean, 1 findings, 2 could not tell. Asks no network and measures nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from msgspec import Struct

from surgery import atomic, catalog, console, render
from surgery.commands import options
from surgery.diagnostics import Diagnostic, Severity, Sink
from surgery.grammar.parse import MAX_BYTES, read_source
from surgery.linting import fixing, levels, run
from surgery.linting.fixing import Fixed
from surgery.source import Source

STDIN = "-"
_BOM = "\ufeff".encode()


class _Mode(Struct, frozen=True):
    """What to do about fixes."""

    fix: bool
    unsafe: bool
    diff: bool

    @property
    def mends(self) -> bool:
        return self.fix or self.diff


class _Result(Struct, frozen=True):
    """One spec: its text before, and what became of it."""

    before: Source
    after: Fixed
    skipped: str


@click.command()
@click.argument("specs", nargs=-1, metavar="[SPEC ...]")
@click.option("--fix", is_flag=True, help="Apply safe fixes.")
@click.option("--unsafe-fixes", "unsafe", is_flag=True, help="Count or apply unsafe fixes too.")
@click.option("--diff", is_flag=True, help="Show what --fix would do, and write nothing.")
@options.inputs
@options.library
@options.findings
def command(
    specs: tuple[str, ...],
    fix: bool,
    unsafe: bool,
    diff: bool,
    inputs: tuple[str, ...],
    library: Path,
    findings: options.Format,
) -> None:
    """Find what could be better about specs (all below a folder; default: this one)."""
    mode = _Mode(fix, unsafe, diff)
    sink = Sink()
    found = options.run_options(sink, library, inputs, options.Format.JSON)
    sources = tuple(_sources(specs or (".",), sink)) if found else ()
    results: list[_Result] = []
    for source in sources:
        known = levels.of(source.name, sink)
        where = run.Options(console.cache_folder(), library, found.settings if found else {}, known)
        results.append(_look(source, where, mode))
    for each in results:
        sink.extend(each.after.left)
        if mode.mends and each.after.changed:
            _mend(each, mode, sink)
    _tell(sink, results, mode, findings)
    sys.exit(_exit_code(sink, results, mode))


# ---- which specs -----------------------------------------------------------------------------


def _sources(specs: Iterable[str], sink: Sink) -> Iterator[Source]:
    """The texts of all specs, each once; what cannot be read is reported."""
    seen: set[str] = set()
    for spec in specs:
        for name in _paths(spec, sink):
            path = os.path.realpath(name)
            if path in seen:
                continue
            seen.add(path)
            source = _stdin(sink) if name == STDIN else read_source(name, sink)
            if source is not None:
                yield source


def _paths(spec: str, sink: Sink) -> Iterator[str]:
    if spec == STDIN or not os.path.isdir(spec):
        yield spec
        return
    found = False
    for folder, folders, files in os.walk(spec):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for file in sorted(files):
            if file.endswith(".surg"):
                found = True
                yield os.path.normpath(os.path.join(folder, file))
    if not found:
        message = f"there is no spec below `{spec}`"
        sink.report(Diagnostic(catalog.E0001, message, subject=spec))


def _stdin(sink: Sink) -> Source | None:
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        return Source("<stdin>", data.removeprefix(_BOM).decode("utf-8"))
    except UnicodeDecodeError as error:
        message = f"`<stdin>` is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        sink.report(Diagnostic(catalog.E0002, message, subject="<stdin>"))
        return None


# ---- one spec --------------------------------------------------------------------------------


def _look(source: Source, where: run.Options, mode: _Mode) -> _Result:
    skipped = ""

    def find(text: Source) -> tuple[Diagnostic, ...]:
        nonlocal skipped
        linted = run.lint(text, where)
        skipped = linted.skipped
        return linted.findings

    if mode.mends:
        return _Result(source, fixing.fix(source, find, unsafe=mode.unsafe), skipped)
    found = find(source)
    return _Result(source, Fixed(source, 0, found, *fixing.fixable(source, found)), skipped)


def _mend(result: _Result, mode: _Mode, sink: Sink) -> None:
    """Show or write the new text of a spec."""
    before, after = result.before, result.after.source
    if mode.diff:
        click.echo(_diff(before, after), nl=False)
    elif before.name == "<stdin>":
        click.echo(after.text, nl=False)
    else:
        path = Path(os.path.realpath(before.name))
        try:
            with path.open("rb") as file:
                mark = _BOM if file.read(len(_BOM)) == _BOM else b""
            atomic.write(path, mark + after.text.encode())
        except OSError as error:
            reason = (error.strerror or "it cannot be written").lower()
            message = f"cannot write `{before.name}`: {reason}"
            sink.report(Diagnostic(catalog.E0806, message, subject=before.name))


def _diff(before: Source, after: Source) -> str:
    import difflib

    old, new = (text.splitlines(keepends=True) for text in (before.text, after.text))
    lines = difflib.unified_diff(old, new, before.name, before.name)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


# ---- telling ---------------------------------------------------------------------------------


def _tell(sink: Sink, results: list[_Result], mode: _Mode, findings: options.Format) -> None:
    layout = render.Format(findings.value)
    # Where the answer is a text or a diff, findings go beside it.
    beside = mode.diff or (mode.fix and any(r.before.name == "<stdin>" for r in results))
    stream = sys.stderr if beside else sys.stdout
    found = sink.sorted()
    if not mode.diff and (found or layout in (render.Format.JSON, render.Format.SARIF)):
        click.echo(render.render(found, layout, colour=stream.isatty()), err=beside)
    if layout is render.Format.FULL and found and not mode.diff:
        click.echo(err=beside)
    for each in results:
        if each.skipped:
            what = "what depends on the model was left out"
            click.echo(f"note: {each.before.name}: {what}: {each.skipped}", err=True)
    click.echo(summary(found, results, mode), err=True)


def summary(found: Iterable[Diagnostic], results: list[_Result], mode: _Mode) -> str:
    """`fixed 2 findings; 1 error and 3 warnings in 1 spec (1 fixable with --fix)`."""
    count = sum(each.after.count for each in results)
    would = "would fix" if mode.diff else "fixed"
    fixed = f"{would} {console.plural(count, 'finding')}" if mode.mends else ""
    left = [each.severity for each in found]
    if not left:
        specs = console.plural(len(results), "spec")
        verb = "is" if len(results) == 1 else "are"
        clean = f"{specs} {verb} clean"
        return f"{fixed}; {clean}" if count else clean
    words = [
        console.plural(left.count(severity), severity.word)
        for severity in (Severity.ERROR, Severity.WARNING)
        if severity in left
    ]
    dirty = max(1, sum(bool(each.after.left) for each in results))
    text = f"{' and '.join(words)} in {console.plural(dirty, 'spec')}{_fixable(results, mode)}"
    return f"{fixed}; {text}" if fixed else text


def _fixable(results: list[_Result], mode: _Mode) -> str:
    safe = sum(each.after.safe for each in results)
    more = sum(each.after.unsafe for each in results)
    ways = [f"{safe} fixable with --fix"] if safe else []
    if more:
        also = f"{more} more" if safe or mode.mends else f"{more} fixable"
        ways.append(f"{also} with {'' if mode.mends else '--fix '}--unsafe-fixes")
    return f" ({', '.join(ways)})" if ways else ""


def _exit_code(sink: Sink, results: list[_Result], mode: _Mode) -> int:
    undecided = console.exit_code(sink)
    if undecided == 2:
        return 2
    changes = mode.diff and any(each.after.changed for each in results)
    return 1 if sink.found or changes else 0
