"""`surgery fmt FILES...`: specs in their one layout.

In: files, folders (every `*.surg` in them), or `-` for stdin. Out: the files, changed only where
their layout differs; stdin on stdout; with `--check` or `--diff`, nothing but the answer. A file
with syntax errors is reported and left as it is. Exit code 0: all is formatted (now); 1: a file
would change, or does not parse; 2: a file could not be read or written.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from msgspec import Struct

from surgery import atomic, catalog, console, formatting
from surgery.commands import options
from surgery.diagnostics import Diagnostic, Sink
from surgery.grammar import parse

SUFFIX = ".surg"


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if a file would change.")
@click.option("--diff", is_flag=True, help="The same, and print what would change.")
def command(files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Format specs; `-` reads stdin and writes stdout."""
    if "-" in files and len(files) > 1:
        raise click.UsageError("`-` cannot be given together with files")
    sink = Sink()
    if files == ("-",):
        changed = _stdin(sink, check=check, diff=diff)
    else:
        changed = _files(files, sink, check=check, diff=diff)
    options.tell(sink, options.Format.FULL)
    sys.exit(max(console.exit_code(sink), int(changed and (check or diff))))


# ---- stdin -----------------------------------------------------------------------------------


def _stdin(sink: Sink, *, check: bool, diff: bool) -> bool:
    """Format stdin and say whether that changes it."""
    data = sys.stdin.buffer.read(parse.MAX_BYTES + 1)
    done = _format("<stdin>", data, sink)
    if done is None:
        return False
    if diff:
        _write_out(done.diff("<stdin>"))
    elif not check:
        _write_out(done.new)
    return done.changed


def _write_out(text: str) -> None:
    # As UTF-8 with plain line ends, whatever the terminal or platform prefers.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())


# ---- files -----------------------------------------------------------------------------------


class _Done(Struct, frozen=True):
    """A text before and after."""

    data: bytes
    new: str

    @property
    def changed(self) -> bool:
        """Whether formatting changes a byte."""
        return self.new.encode() != self.data

    def diff(self, name: str) -> str:
        """What formatting changes, for people."""
        return formatting.unified_diff(self.data.decode(), self.new, name)


def _format(name: str, data: bytes, sink: Sink) -> _Done | None:
    source = parse.decode(name, data, sink)
    text = None if source is None else formatting.format_text(source, sink)
    return None if text is None else _Done(data, text)


def _files(files: tuple[str, ...], sink: Sink, *, check: bool, diff: bool) -> bool:
    """Format files and say whether that changes any."""
    changed, same, failed = 0, 0, 0
    for name in _found(files, sink):
        data = parse.read_bytes(name, sink)
        done = None if data is None else _format(name, data, sink)
        if done is None:
            failed += 1
        elif not done.changed:
            same += 1
        elif diff:
            changed += 1
            _write_out(done.diff(name))
        elif check or _replace(name, done, sink):
            changed += 1
            click.echo(f"{'would format' if check else 'formatted'} {name}")
        else:
            failed += 1
    written = "would be formatted" if check or diff else "formatted"
    counts = ((changed, written), (same, "already formatted"), (failed, "skipped"))
    told = ", ".join(f"{console.plural(n, 'file')} {what}" for n, what in counts if n)
    if told:
        click.echo(told, err=diff)
    return changed > 0


def _found(files: tuple[str, ...], sink: Sink) -> Iterator[str]:
    """Every file once, in the order given; those of a folder by name."""
    seen: set[str] = set()
    for name in files:
        inside = [name]
        if Path(name).is_dir():
            inside = [str(path) for path in _specs(Path(name))]
            if not inside:
                message = f"there is no `*{SUFFIX}` file in `{name}`"
                sink.report(Diagnostic(catalog.E0001, message, subject=name))
        for each in inside:
            if os.path.realpath(each) not in seen:
                seen.add(os.path.realpath(each))
                yield each


def _specs(folder: Path) -> list[Path]:
    """The specs below a folder; what begins with a dot is no concern of ours."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        found += [Path(place, n) for n in names if n.endswith(SUFFIX) and not n.startswith(".")]
    return sorted(found)


def _replace(name: str, done: _Done, sink: Sink) -> bool:
    """Write a file; through a link, what it leads to."""
    path = Path(os.path.realpath(name))
    try:
        # Replacing needs no permission to write the file; asking for it is only polite.
        if not os.access(path, os.W_OK):
            raise PermissionError(0, "it is read-only")
        atomic.write(path, done.new.encode(), stat.S_IMODE(path.stat().st_mode))
    except OSError as error:
        reason = (error.strerror or "it cannot be written").lower()
        sink.report(Diagnostic(catalog.E0806, f"cannot write `{name}`: {reason}", subject=name))
        return False
    return True
