"""A small spec that lints clean, and what the linter says when a part of it is changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from surgery.diagnostics import Diagnostic, Safety
from surgery.linting import fixing
from surgery.linting.levels import Levels
from surgery.linting.run import Linted, Options, lint
from surgery.source import Source

CLEAN = """surg 1

import "std/moe.surg" as moe

model parent = local("no such folder")

## Fraction of the parent's bytes to keep.
input share: ratio = 75%

dataset text = local("text.jsonl") {
  take   = 4
  length = 1K tok
}

score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers {
  keep
  retain 64 | 32 by moe.contribution(text)
}

choose attention in layers where attention is full {
  keep
  window 128 tok
}

require @size weights <= share * parent.weights

minimize damage
"""

WORLD = """
import "std/nvidia.surg" as nvidia

machine node = 8 * nvidia.h100_sxm { tensor_parallel = 8 }

scenario chat on node {
  prefill = 256 tok
  decode  = 256 tok
  batch   = 16
}
"""
"""A machine and a load; statements may come in any order, so it can be put before anything."""


def linted(
    text: str,
    name: str = "t.surg",
    *,
    settings: Mapping[str, str] | None = None,
    levels: Levels | None = None,
    cache: Path = Path("no such cache"),
) -> Linted:
    return lint(
        Source(name, text), Options(cache, settings=settings or {}, levels=levels or Levels())
    )


def findings(text: str, code: str = "") -> tuple[Diagnostic, ...]:
    """All findings about a text, or those of one code."""
    return tuple(d for d in linted(text).findings if code in ("", d.code.id))


def codes(text: str) -> list[str]:
    """The codes of all findings but the one about back ends."""
    return [d.code.id for d in linted(text).findings]


def only(text: str, code: str) -> Diagnostic:
    """The one finding about a text."""
    assert codes(text) == [code]
    return findings(text, code)[0]


def marked(found: Diagnostic) -> str:
    assert found.primary is not None
    return found.primary.span.text


def changed(before: str, after: str, text: str = CLEAN) -> str:
    """The text with one part replaced, which must be there."""
    assert before in text
    return text.replace(before, after, 1)


def fixed(text: str, found: Diagnostic, safety: Safety, number: int = 0) -> str:
    """The text after one of the fixes of a finding, which must have that safety."""
    fix = [help.fix for help in found.helps if help.fix][number]
    assert fix.safety is safety
    return fixing.apply(text, fix.edits)


def mended(text: str, code: str, safety: Safety) -> str:
    """The text after the first fix of its one finding, which leaves nothing to find."""
    after = fixed(text, only(text, code), safety)
    assert codes(after) == []
    return after
