"""The fixes of the check: each removes its finding and introduces none.

The statements are those of `test_check_errors.py`: every mistake that the check knows.
"""

from __future__ import annotations

import pytest
from check_fixtures import BASE, check_text, findings
from test_check_errors import ADDED

from surgery.diagnostics import Diagnostic, Fix, Safety

_LOOSE = [
    "machine m = 2 * h100_sxm\nrequire memory(chat) <= m.memory",
    "require weights <= node.mem",
    "require kv(1K tok) <= parent.kv_cache(1K tok)",
    "choose attention in layers where attention is sliding { keep noop }",
    "score s = swap_one(metric: kl(logits), on: parent)",
    "score s = swap_one()",
    "choose attention in layers[0] { keep kv_heads 2 tok }",
    'recover { average { of = deep } reinforce deep { effort = high tasks = "a" } }',
    'emit runtime "x" { backend = "triton" }',
    "let half = 50\ninput part: ratio = half",
    'import "std/nvidea.surg" as more\nrequire weights <= 40GB',
]
"""More mistakes with a way out."""


_UNCOVERS = {"recover { distil { } }": "E0207", "require params <= parent.parms(chat)": "E0303"}
"""Mistakes that hide another one, which is theirs and not the fix's."""


def _cases() -> list[object]:
    statements = [*(statement for statement, _, _ in ADDED), *_LOOSE]
    return [
        pytest.param(f"{BASE}{statement}\n", number, place, id=f"{statement}-{number}-{place}")
        for statement in statements
        for number, found in enumerate(check_text(f"{BASE}{statement}\n")[1].sorted())
        for place, fix in enumerate(_fixes(found))
        if fix.safety is not Safety.DISPLAY
    ]


def _fixes(found: Diagnostic) -> tuple[Fix, ...]:
    return tuple(help.fix for help in found.helps if help.fix)


@pytest.mark.parametrize(("text", "number", "place"), _cases())
def test_a_fix_removes_its_finding_and_introduces_none(text: str, number: int, place: int) -> None:
    before = findings(text)
    fix = _fixes(before[number])[place]
    assert list(fix.edits) == sorted(fix.edits, key=lambda edit: edit.span.start)
    mended = text
    for edit in reversed(fix.edits):
        mended = mended[: edit.span.start] + edit.text + mended[edit.span.end :]
    after = check_text(mended)[1].sorted()
    codes = [found.code.id for found in before]
    codes.remove(before[number].code.id)
    uncovered = _UNCOVERS.get(text.removeprefix(BASE).rstrip())
    left = [found.code.id for found in after if found.code.id not in ("W0719", uncovered)]
    assert left == codes, [found.message for found in after]


@pytest.mark.parametrize("statement", _LOOSE)
def test_these_mistakes_have_a_fix(statement: str) -> None:
    (found, *_) = findings(f"{BASE}{statement}\n")
    assert any(fix.safety is not Safety.DISPLAY for fix in _fixes(found))


def test_a_missing_field_goes_where_the_block_is_written() -> None:
    blocks = {
        "{ prefill = 1 tok }": "{ prefill = 1 tok, decode = 4K tok, batch = fit }",
        "{ }": "{ prefill = 4K tok, decode = 4K tok, batch = fit }",
        "{\n  prefill = 1 tok\n  batch = 1\n}": (
            "{\n  prefill = 1 tok\n  batch = 1\n  decode = 4K tok\n}"
        ),
    }
    for block, whole in blocks.items():
        text = f"{BASE}scenario x on node {block}\n"
        (found,) = findings(text)
        (fix,) = _fixes(found)
        (edit,) = fix.edits
        mended = text[: edit.span.start] + edit.text + text[edit.span.end :]
        assert mended == f"{BASE}scenario x on node {whole}\n"
        assert fix.safety is Safety.DISPLAY
