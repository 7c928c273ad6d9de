"""Log probabilities by Transformers in float32, to hold engines against.

In: a compiled folder or a checkpoint, tokens, what an engine said. Out: differences in log
probability over all tokens that the engine named.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from surgery_runtime import schema
from surgery_runtime.load import load


def model_of(folder: Path) -> Any:
    """The model in float32 with eager attention."""
    if (folder / schema.FILE).exists():
        return load(folder, torch.float32)
    transformers: Any = importlib.import_module("transformers")
    checkpoint = folder / "checkpoint" if (folder / "checkpoint").exists() else folder
    return transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint,
        dtype=torch.float32,
        attn_implementation="eager",
        # Twins of ours may carry classes of ours.
        trust_remote_code=True,
    ).eval()


def steps(
    model: Any, prompt: list[int], told: dict[str, Any], *, generated: bool = False
) -> list[float]:
    """Largest |difference| at each position of prompt and answer, or of the answer alone."""
    tokens = torch.tensor([prompt + told["tokens"]])
    with torch.inference_mode():
        expected = model(tokens).logits[0].log_softmax(-1)
    first = len(prompt) - 1 if generated else 0
    return [
        max(abs(float(expected[first + at, int(token)]) - said) for token, said in step.items())
        for at, step in enumerate(told["logprobs"])
    ]


def difference(
    model: Any, prompt: list[int], told: dict[str, Any], *, generated: bool = False
) -> float:
    """Largest |difference| over all positions."""
    return max(steps(model, prompt, told, generated=generated))
