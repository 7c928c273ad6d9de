"""House rules that no linter knows: sizes of files and functions, docstrings, no machine paths."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRODUCT = sorted([*(ROOT / "surgery").rglob("*.py"), *(ROOT / "runtime").rglob("*.py")])


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_short() -> None:
    sizes = {path: _lines(path) for path in PRODUCT}
    assert len(sizes) > 100
    assert [str(path) for path, size in sizes.items() if size > 400] == []
    assert statistics.median(sizes.values()) < 160


def test_functions_are_short() -> None:
    long: list[str] = []
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > 40:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {size}")
    assert long == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in PRODUCT
        if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert silent == []


def test_no_paths_of_one_machine() -> None:
    # A home or temporary folder in a source file works on one machine only.
    pattern = re.compile(r"[\"'`(](/home/|/root/|/tmp/|/Users/)")
    hits = [
        str(path.relative_to(ROOT))
        for path in [*PRODUCT, *(ROOT / "specs").glob("*.surg"), ROOT / "README.md"]
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert hits == []


def test_documents_are_finished() -> None:
    for name in ("README.md", "CHANGELOG.md", "specs/tinymoe/README.md"):
        assert "@@" not in (ROOT / name).read_text(encoding="utf-8")
