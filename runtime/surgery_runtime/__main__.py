# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# Transformers ships no types for its tokenizers and `generate`.
"""`python -m surgery_runtime OUT "Some text"`: let a compiled model go on with a text.

In: a folder that `surgery compile` wrote, a prompt. Out: the greedy continuation on stdout. Not
here: serving, sampling, chat templates.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from surgery_runtime import schema
from surgery_runtime.load import load


def main() -> None:
    """Read the arguments, load, generate, print."""
    parser = argparse.ArgumentParser(prog="surgery_runtime", description=__doc__)
    parser.add_argument("folder", type=Path, help="what `surgery compile -o` wrote")
    parser.add_argument("prompt")
    parser.add_argument("--tokens", type=int, default=40, help="how many to generate")
    options = parser.parse_args()
    model: Any = load(options.folder, torch.float32)
    checkpoint = schema.read(options.folder).checkpoint or "."
    tokenizer: Any = AutoTokenizer.from_pretrained(options.folder / checkpoint)
    inputs = tokenizer(options.prompt, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        made = model.generate(**inputs, max_new_tokens=options.tokens, do_sample=False)
    print(tokenizer.decode(made[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
