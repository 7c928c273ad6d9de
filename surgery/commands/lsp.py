"""`surgery lsp`: the language server, for editors."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from importlib.util import find_spec

import click


@click.command()
def command() -> None:
    """Serve an editor on stdin and stdout (Language Server Protocol)."""
    if find_spec("pygls") is None:
        click.echo("`surgery lsp` needs pygls: pip install 'surgery[editor]'", err=True)
        sys.exit(2)
    from surgery.lsp import features

    session = features.make()
    # What is loaded by now stays: looking through it again and again would slow every keystroke.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    # A stdout of its own: pygls closes it at the end, and nobody else may write into the protocol.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    with contextlib.redirect_stdout(sys.stderr):
        session.wire.start_io(stdout=answers)
