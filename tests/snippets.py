"""The examples of explanations: fragments of specs, completed so that they can be run.

An explanation shows the lines that matter. A `surg` block that begins with `surg` (or with comments
before it) is a whole file; any other is a fragment, and gets what it names and does not define: a
parent, a machine, a scenario, a dataset, a score, imports and an objective. `file path` blocks are
other files of the same folder, and belong to the blocks of their section.
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

WORLD: dict[str, str] = {
    "nvidia": 'import "std/nvidia.surg" as nvidia\n',
    "moe": 'import "std/moe.surg" as moe\n',
    "kv": 'import "std/kv.surg" as kv\n',
    "parent": 'model parent = local("{parent}")\n',
    "gpu": "machine gpu = 1 * nvidia.h100_sxm\n",
    "node": "machine node = 8 * nvidia.h100_sxm { tensor_parallel = 8 }\n",
    "chat": "scenario chat on gpu {\n  prefill = 64 tok\n  decode  = 64 tok\n  batch   = 4\n}\n",
    "text": 'dataset text = local("text.jsonl") {\n  take   = 4\n  length = 64 tok\n}\n',
    "damage": "score damage = swap_one(metric: kl(logits), on: text)\n",
}
"""What a fragment may use without defining it, in the order in which it is written."""

_BLOCK = re.compile(r"^```(\S+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(Struct, frozen=True):
    """One fenced block: its kind (`surg`, `file`, `console`), what follows that, its text."""

    kind: str
    rest: str
    text: str


def blocks(markdown: str) -> tuple[Block, ...]:
    """All fenced blocks of a text, in order."""
    return tuple(Block(m[1], m[2] or "", m[3]) for m in _BLOCK.finditer(markdown))


def sections(markdown: str) -> dict[str, str]:
    """The text below each `## heading`; in a fenced block, `##` is a comment of the spec."""
    found, heading, fenced = {"": ""}, "", False
    for line in markdown.splitlines(keepends=True):
        fenced = fenced != line.startswith("```")
        if line.startswith("## ") and not fenced:
            heading = line[3:].strip()
        found[heading] = found.get(heading, "") + line
    return found


def _words(text: str) -> set[str]:
    """Names used in a text as values: not fields, parameters or calls, nor in comments."""
    code = re.sub(r'#.*|"[^"\n]*"', "", text)
    return set(re.findall(r"(?<![\w.@-])([a-z_]\w*)(?!\w|\s*=[^=]|:|\()", code))


def _defines(text: str, name: str) -> bool:
    return bool(re.search(rf"^((?!m..imize)\w+ {name}\b|import .* as {name}\b)", text, re.M))


def complete(fragment: str) -> str:
    """A whole spec around a fragment; a whole spec is left alone.

    The parent is `tiny` (a mixture of experts), or `dense` where the fragment chooses an FFN.
    """
    if re.match(r"(\s*(#.*)?\n)*surg\b", fragment):
        return fragment
    objective = "" if re.search(r"^(mini|maxi)mize\b", fragment, re.MULTILINE) else "damage"
    used, before = _words(fragment) | {objective, "parent"}, ""
    has_model = re.search(r"^model\b", fragment, re.MULTILINE)
    # Backwards, so that what a definition needs comes before it.
    for name, text in reversed(WORLD.items()):
        if name in used and not _defines(fragment, name) and not (name == "parent" and has_model):
            before = text + before
            used |= _words(text)
    dense = re.search(r"^choose ffn\b|\bffn is dense\b|\bwidth\b|\bkv_heads\b", fragment, re.M)
    before = before.replace("{parent}", "dense" if dense else "tiny")
    after = f"minimize {objective}\n" if objective else ""
    return f"surg 1\n\n{before}\n{fragment}\n{after}"


def write(section: tuple[Block, ...], folder: Path) -> None:
    """Write the `file` blocks of a section into a folder."""
    for block in section:
        if block.kind == "file":
            path = folder / block.rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
