# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# Neither library ships types for what is used here.
"""`python -m surgery_runtime OUT "Some text"`: let a compiled model go on with a text.

In: a folder that `surgery compile` wrote, a prompt. Out: the greedy continuation on stdout. Not
here: serving, sampling, chat templates.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

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
    # The file itself, because an automatic class would offer to run code of the checkpoint.
    tokenizer: Any = Tokenizer.from_file(str(options.folder / checkpoint / "tokenizer.json"))
    tokens = torch.tensor([tokenizer.encode(options.prompt, add_special_tokens=False).ids])
    with torch.inference_mode():
        made = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=options.tokens,
            do_sample=False,
        )
    print(tokenizer.decode(made[0].tolist()))


if __name__ == "__main__":
    main()
