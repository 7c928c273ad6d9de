"""The model card: what was cut from what, what it lost, and how to serve it.

The cards of small children stand in `golden/model-card`; `--update-golden` rewrites them. Hashes
are left out there: they are of random weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, Workplace
from emit_fixtures import ATTENTION, EXPERTS, FFN, MIXED, Case, bench, prepare
from msgspec.structs import replace

from surgery.ir import Site
from surgery.passes.emit_child import child_of
from surgery.passes.judge import Checked, Judgement, Uniform
from surgery.passes.model_card import model_card
from surgery.scoring.assembled import Assembled

__all__ = ["bench"]

GOLDEN = Path(__file__).parent / "golden" / "model-card"
HERE = Assembled(0.18739, 0.01301, 31.6, 40.112, 4, 64)
JUDGED = Judgement(
    (Checked("damage", "text", HERE),),
    "heldout",
    replace(HERE, kl=0.2619, kl_error=0.0274),
    Uniform("experts 5", 123_456, replace(HERE, kl=1.253, samples=1)),
)
Picks = Mapping[tuple[int, Site], str]
CARDS: Mapping[str, tuple[str, Picks, Judgement | None]] = {
    "unchanged": ("llama", {}, None),
    "uniform": ("gpt_oss", {(n, EXPERTS): "4" for n in range(4)}, JUDGED),
    "experts": ("mxfp4", {(0, EXPERTS): "4", (2, EXPERTS): "2"}, JUDGED),
    "everything": ("mxfp4", MIXED["mxfp4"], replace(JUDGED, heldout=None, uniform=None)),
    "dense": ("llama", {(1, FFN): "64", (2, ATTENTION): "kv_heads(1)", (3, FFN): "96"}, None),
    "lost": ("llama", {(1, FFN): "noop"}, None),
    "mixtral": ("mixtral", {(0, EXPERTS): "4"}, None),
}


def card(case: Case, judgement: Judgement | None = None, name: str = "tiny") -> str:
    """The card of a case, without what depends on random weights."""
    plan = replace(case.plan, metrics=(*case.plan.metrics, ("damage", "0.1787")))
    about = "A tiny model on a diet."
    text = model_card(child_of(name, case.model, plan, case.chosen, about, judgement))
    return re.sub(r"`[0-9a-f]{16}`", "`<hash>`", text)


@pytest.mark.parametrize("name", CARDS)
def test_cards_are_these(
    name: str, bench: Path, sparse_parents: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    parent, picks, judgement = CARDS[name]
    parents = sparse_parents if parent == "mixtral" else bench
    found = card(prepare(parents, parent, picks, tmp_path), judgement).replace(
        str(parents), "PARENTS"
    )
    path = GOLDEN / f"{name}.md"
    if request.config.getoption("--update-golden"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_windows_where_engines_do_not_look_are_warned_of(bench: Path, tmp_path: Path) -> None:
    case = prepare(bench, "gpt_oss", {(n, EXPERTS): "4" for n in range(4)}, tmp_path)
    assert "would\nrun this model wrongly" not in card(case)
    types = ["full_attention", "sliding_attention"] * 2
    child = child_of("tiny", case.model, case.plan, case.chosen)
    child = replace(child, config={**child.config, "layer_types": types})
    assert "would\nrun this model wrongly" in model_card(child)


def test_the_card_of_a_compiled_model_says_what_was_measured(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same figures as on the terminal, and the same file once more."""
    spec = workplace.write("gpt_oss.surg", GPT_OSS_SPEC)
    assert workplace.run("compile", spec, "-o", "out") == 0
    lines = capsys.readouterr().out.splitlines()
    (said,) = (
        line.split(maxsplit=2) for line in lines if line.startswith("  damage  ") and "+-" in line
    )
    text = (workplace.folder / "out/checkpoint/README.md").read_text(encoding="utf-8")
    measured = said[2].removesuffix("text").strip()
    assert f"| damage | text | {said[1]} | {measured} |" in text
    assert "\nA tiny mixture of experts on a diet.\n" in text
    assert "\n\n\n" not in text
    plan = (workplace.folder / "out/gpt_oss.plan").read_text(encoding="utf-8")
    (decision,) = re.findall(r"^decision  sha256:([0-9a-f]{16})$", plan, re.MULTILINE)
    assert f"decision `{decision}` of `gpt_oss.plan`" in text
    assert workplace.run("compile", spec, "-o", "again", "--plan", "out/gpt_oss.plan") == 0
    assert (workplace.folder / "again/checkpoint/README.md").read_text(encoding="utf-8") == text
