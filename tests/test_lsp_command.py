"""`surgery lsp` as a command: what it needs, and how it ends."""

from __future__ import annotations

import subprocess
import sys

from surgery.cli import main

WITHOUT = """
import sys
sys.modules["pygls"] = None
from surgery.cli import main
sys.exit(main(["lsp"]))
"""


def test_without_pygls_it_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "`surgery lsp` needs pygls: pip install 'surgery[editor]'\n"
    assert done.stdout == ""


def test_a_client_that_goes_away_ends_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "surgery", "lsp"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_it_loads_nothing_heavy() -> None:
    script = (
        "import sys, surgery.lsp.features\n"
        "heavy = {'numpy', 'torch', 'scipy', 'cvxpy', 'highspy', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_help() -> None:
    assert main(["lsp", "--help"]) == 0
