"""What each statement is for, and how it is begun: hover and completion of keywords.

In: nothing. Out: a sentence and a snippet for every keyword of `grammar/scan.py`; a test compares
the two lists.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Keyword(Struct, frozen=True):
    """One statement: its act, a sentence, and a snippet with tab stops in the client's syntax."""

    act: str
    doc: str
    snippet: str


_NAMES, _WORLD, _EDITS = "names", "the world", "the edits"
_WISHES, _AFTER = "the wishes", "the afterwards"


def _keyword(act: str, doc: str, *lines: str) -> Keyword:
    return Keyword(act, doc, "\n".join(lines))


KEYWORDS: Mapping[str, Keyword] = {
    "surg": _keyword(
        _NAMES,
        "the edition of the language: every spec begins with it",
        "surg 1",
        "",
    ),
    "import": _keyword(
        _NAMES,
        "names from another file",
        'import "${1:std/nvidia.surg}" as ${2:nvidia}',
    ),
    "model": _keyword(
        _NAMES,
        "the parent: what is cut",
        'model ${1:parent} = ${2:local}("$3")',
    ),
    "input": _keyword(
        _NAMES,
        "a value that `--set` can change",
        "input ${1:share}: ${2:ratio} = ${3:80%}",
    ),
    "let": _keyword(
        _NAMES,
        "a name for an expression",
        "let ${1:name} = $0",
    ),
    "fn": _keyword(
        _NAMES,
        "an expression with parameters",
        "fn ${1:name}(${2:s}: ${3:scenario}) -> ${4:ratio} = $0",
    ),
    "machine": _keyword(
        _WORLD,
        "what the result runs on",
        "machine ${1:node} = ${2:8} * $0",
    ),
    "scenario": _keyword(
        _WORLD,
        "a load that the result must serve",
        "scenario ${1:chat} on ${2:node} {",
        "  prefill = ${3:4K tok}",
        "  decode  = ${4:4K tok}",
        "  batch   = ${5:fit}",
        "}",
    ),
    "dataset": _keyword(
        _WORLD,
        "text to measure on",
        'dataset ${1:text} = local("$2") {',
        "  take   = ${3:256}",
        "  length = ${4:1K tok}",
        "  seed   = ${5:0}",
        "}",
    ),
    "score": _keyword(
        _WORLD,
        "how the damage of a change is measured",
        "score ${1:damage} = swap_one(metric: kl(logits), on: ${2:text})",
    ),
    "apply": _keyword(
        _EDITS,
        "an edit that is made in any case",
        "apply ${1:kv_cache} {",
        "  $0",
        "}",
    ),
    "choose": _keyword(
        _EDITS,
        "alternatives for one part of some layers: exactly one is taken",
        "choose ${1:experts} in ${2:layers} {",
        "  keep",
        "  $0",
        "}",
    ),
    "expect": _keyword(
        _WISHES,
        "a fact about the inputs, checked before any work",
        "expect @${1:label} $0",
    ),
    "require": _keyword(
        _WISHES,
        "a limit that the result keeps",
        "require @${1:label} $0",
    ),
    "minimize": _keyword(
        _WISHES,
        "the one objective: the smaller, the better",
        "minimize $0",
    ),
    "maximize": _keyword(
        _WISHES,
        "the one objective: the larger, the better",
        "maximize $0",
    ),
    "recover": _keyword(
        _AFTER,
        "training that repairs what was lost",
        "recover {",
        "  $0",
        "}",
    ),
    "emit": _keyword(
        _AFTER,
        "what is written",
        'emit ${1:checkpoint} "${2:out}"',
    ),
}
"""In the order of the five acts."""
