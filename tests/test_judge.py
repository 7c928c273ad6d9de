"""Judging a finished child through the command line: predictions, held-out text, the rival."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import LLAMA_SPEC, Workplace, write_text

HELD_OUT = (
    'dataset unseen = local("unseen.jsonl") {\n  take   = 4\n  length = 64 tok\n  seed   = 1\n}\n'
)
EMIT = 'emit checkpoint "out" { judge = NAME }\n'


def _row(report: str, start: str) -> list[str]:
    """The cells of the last row that starts so."""
    rows = [line for line in report.splitlines() if line.strip().startswith(start)]
    return re.split(r"\s{2,}", rows[-1].strip())


def test_child_and_rival_are_judged(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(workplace.folder / "unseen.jsonl", documents=30, shift=5)
    spec = LLAMA_SPEC + HELD_OUT + EMIT.replace("NAME", "unseen")
    assert workplace.run("compile", workplace.write("a.surg", spec)) == 0
    told = capsys.readouterr()
    assert "W0718" not in told.err
    _name, predicted, measured, _text = _row(told.out, "damage  ")
    # Additive on a 4-layer random model: the right order of magnitude, not more.
    assert 0.2 < float(predicted) / float(measured.split(" ")[0]) < 5
    _plan, params, kl, perplexity = _row(told.out, "this plan")
    _uniform, rival_params, rival_kl, rival_perplexity = _row(told.out, "uniform ffn")
    assert float(rival_params[:-1]) >= float(params[:-1])
    assert 0 < float(kl.split(" ")[0]) != float(rival_kl.split(" ")[0])
    assert float(perplexity) > 1
    assert float(perplexity) != float(rival_perplexity)
    assert Path("out/checkpoint/model.safetensors").is_file()


def test_seen_text_is_no_judge(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    spec = LLAMA_SPEC + EMIT.replace("NAME", "text")
    assert workplace.run("compile", workplace.write("a.surg", spec)) == 0
    assert "warning[W0718]" in capsys.readouterr().err
