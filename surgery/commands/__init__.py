"""The commands, one file each: `surgery NAME` runs `command` of `surgery/commands/NAME.py`.

In: arguments. Out: answers on stdout, findings and progress on stderr, exit codes. A file is
imported when its command is called (or listed by `--help`), and imports what is heavy when it
runs. To add a command, add its file and its name to `NAMES`, with `-`
where the file has `_`.
"""

from __future__ import annotations

NAMES = (
    "check",
    "fmt",
    "lint",
    "plan",
    "compile",
    "show",
    "diff",
    "inspect",
    "verify",
    "twin",
    "library",
    "bench",
    "machines",
    "explain",
    "install-git",
    "lsp",
)
"""In the order in which one meets them; `--help` lists them so."""
