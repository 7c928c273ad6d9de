"""A folder with a parent that is a config alone, a spec of it, and questions about places in it."""

from __future__ import annotations

import json
from pathlib import Path

from lsprotocol import types
from rules_fixtures import DENSE, MOE

from surgery.lsp.documents import Document, uri_of
from surgery.lsp.workspace import Workspace

SPEC = """surg 1

## A small mixture, made smaller.

import "std/moe.surg" as moe
import "std/nvidia.surg" as nvidia
import "parts/load.surg" as load

model parent = local("moe")

## Fraction of the bytes to keep.
input share: ratio = 75%

let limit = 64K tok

machine node = 2 * nvidia.h100_sxm { tensor_parallel = 2 }

scenario chat on node {
  prefill = 512 tok
  decode  = 256 tok
  batch   = 8
}

dataset text = local("text.jsonl") {
  take   = 4
  length = 256 tok
}

## Damage of one change.
score damage = swap_one(metric: kl(logits), on: text)

fn room(s: scenario, part: ratio) -> truth = memory(s) <= part * node.memory

choose experts in layers {
  keep
  retain 6 | 4 by moe.contribution(text)
}

choose attention in layers where attention is full {
  keep
  window 64 tok
}

require @size weights <= share * parent.weights
require @room room(chat, load.part)
require @kv   kv(1K tok) <= 70% * parent.kv(1K tok)
require @few  params <= 1M params

minimize damage
"""

PART = """surg 1

## What a customer sends.

## Part of the memory that may be used.
let part = 92%
"""


def workplace(folder: Path) -> Path:
    """The folder: `moe/` and `dense/`, text, an imported file."""
    for name, config in (("moe", MOE), ("dense", DENSE)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "parts").mkdir()
    (folder / "parts" / "load.surg").write_text(PART, encoding="utf-8")
    lines = [json.dumps({"text": f"line {n} of a text " * 20}) for n in range(40)]
    (folder / "text.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def opened(folder: Path, text: str = SPEC, name: str = "spec.surg") -> tuple[Workspace, str]:
    """A workspace in which one document is open, and what its parent tells is known."""
    workspace = Workspace(roots=(str(folder),))
    uri = str(uri_of(str(folder / name)))
    workspace.put(Document(uri, 1, text))
    analysis = workspace.analysis(uri)
    assert analysis is not None
    known = workspace.parents.learn(analysis)
    if known is not None:
        workspace.parents.keep(known)
    return workspace, uri


def position(text: str, needle: str, shift: int = 0) -> types.Position:
    """The place `shift` characters behind the only (or first) occurrence of a piece of text."""
    assert needle in text, needle
    before = text[: text.index(needle) + shift]
    return types.Position(before.count("\n"), len(before) - before.rfind("\n") - 1)


def applied(text: str, edits: list[types.TextEdit]) -> str:
    """A text after the edits of a client, which do not overlap."""

    def offset(place: types.Position) -> int:
        lines = text.split("\n")
        return sum(len(line) + 1 for line in lines[: place.line]) + place.character

    for edit in sorted(edits, key=lambda e: offset(e.range.start), reverse=True):
        text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
    return text
