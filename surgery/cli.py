"""The command line: `surgery COMMAND ...`.

stdout carries the answer, stderr progress and findings. Exit codes: 0 yes; 1 no (findings,
differences, infeasible); 2 could not tell (usage, files, disk, a bug of ours). Importing this
module loads neither numpy nor torch nor a solver, and only the command that is called, so that
`--help`, `check`, `fmt` and `lint` answer at once.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from surgery import commands, console


class _Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(commands.NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in commands.NAMES:
            return None
        found = import_module(f"surgery.commands.{cmd_name.replace('-', '_')}").command
        assert isinstance(found, click.Command)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="surgery", message="surgery %(version)s")
def app() -> None:
    """Compile a .surg spec: choose one block per layer, exactly, and cut the checkpoint."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        try:
            app(args=arguments, prog_name="surgery")
        finally:
            sys.stdout.flush()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 2
    except OSError as error:
        # Passes report their own; what is left is a full or closed stdout.
        console.cannot_print(error)
        return 2
    except Exception as bug:
        # The last resort: whatever comes here is a bug of ours, and users get no traceback.
        console.internal_error(bug)
        return 2
    return 0
