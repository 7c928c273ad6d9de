"""llama.cpp on a padded twin, with the windows of its layers as an array."""

from __future__ import annotations

import json
from pathlib import Path

from references import difference, model_of
from serving import PROMPT, run

pytest_plugins = ("serving",)

EXACT = 1e-4


def test_the_padded_twin_is_served(children: Path, tmp_path: Path) -> None:
    prompt, answer = tmp_path / "prompt.json", tmp_path / "answer.json"
    prompt.write_text(json.dumps(PROMPT), encoding="utf-8")
    twin = children / "experts_padded" / "checkpoint"
    run("llamacpp.py", str(twin), str(tmp_path / "twin.gguf"), str(prompt), str(answer))
    told = json.loads(answer.read_text(encoding="utf-8"))
    found = difference(model_of(children / "experts"), PROMPT, told, generated=True)
    print(f"llama.cpp: max |d logprob| {found:.1e}")
    assert len(told["tokens"]) == 12
    assert found <= EXACT
