"""Plans of 80 layers from tables alone, through the command, and how long the solver takes.

    python tests/bench/table.py [--folder DIR] [--times]

Writes the `config.json` of a parent of 80 layers, a spec with two requirements (parameters and KV
cache), and a table with the score, the parameters and the cache of every alternative, as measured
or counted elsewhere: attention kept or gone times eight widths of the FFN, 16 alternatives of a
layer. Runs `surgery plan --exact --top 3 --distance 20` on them and prints the seconds of the whole
command, of the questions to the solver and of the search in them, by question.

With `--times`, a third requirement, on the time per token of a machine: its row is of fractions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from surgery.cli import main as surgery
from surgery.passes import solve
from surgery.solving.knapsack import search

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, WIDTH = 80, 8192, 64, 8, 128, 28672
WIDTHS = tuple(WIDTH * n // 8 for n in range(7, 0, -1))

SPEC = """surg 1

## 80 layers of 16 alternatives, from a table.

model parent = local("parent")

dataset text = local("text.jsonl") { take = 16, length = 512 tok, seed = 0 }

score damage = swap_one(metric: kl(logits), on: text)
WORLD
choose attention in layers {
  keep
  noop
}

choose ffn in layers {
  keep
  width WIDTHS by channel_contribution(text)
}

require @size params <= 65% * parent.params
require @kv   kv(4K tok) <= 70% * parent.kv(4K tok)
MORE
minimize damage
"""
MACHINE = """
import "std/nvidia.surg" as nvidia

machine node = 8 * nvidia.h100_sxm { tensor_parallel = 8 }

scenario chat on node { prefill = 4K tok, decode = 1K tok, batch = 16 }
"""


def rows(seed: int) -> Iterator[str]:
    """Damage that grows with what goes, by another amount in every layer, and exact costs."""
    rng = np.random.default_rng(seed)
    projections = 2 * HIDDEN * HEAD * (HEADS + KV_HEADS)
    yield "address,metric,value"
    for layer in range(LAYERS):
        attention, ffn = rng.lognormal(-2, 0.7), rng.lognormal(-1.5, 0.7)
        power = rng.uniform(1.2, 2.5)
        for name, harm, params, cache in (
            ("attention.full", 0.0, projections + HIDDEN, 4 * KV_HEADS * HEAD),
            ("attention.noop", attention, 0, 0),
            (f"ffn.{WIDTH}", 0.0, 3 * HIDDEN * WIDTH + HIDDEN, 0),
            *(
                (f"ffn.{width}", ffn * (1 - width / WIDTH) ** power, 3 * HIDDEN * width + HIDDEN, 0)
                for width in WIDTHS
            ),
        ):
            address = f"layer.{layer}.{name}"
            if harm:
                noisy = harm * (1 + 0.03 * rng.standard_normal())
                yield f"{address},damage,{noisy:.9f}"
            yield f"{address},params,{params}"
            yield f"{address},weights,{2 * params}"
            yield f"{address},kv_per_token,{cache}"


def write(folder: Path, seed: int, *, times: bool) -> None:
    """The parent's config, the spec, and the table."""
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "intermediate_size": WIDTH,
        "vocab_size": 32000,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "parent").mkdir(parents=True, exist_ok=True)
    (folder / "parent" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    more = "require @calm tpot(chat) <= 0.75x * parent.tpot(chat)\n" if times else ""
    spec = SPEC.replace("WIDTHS", " | ".join(map(str, WIDTHS))).replace("MORE", more)
    text = spec.replace("WORLD", MACHINE if times else "")
    (folder / "table.surg").write_text(text, encoding="utf-8")
    (folder / "table.csv").write_text("\n".join(rows(seed)) + "\n", encoding="utf-8")


def timed(seconds: dict[str, list[float]]) -> None:
    """Let every question, and the search in it, add its seconds."""
    ask, look = solve.Solver.minimise, search.solve

    def minimise(*arguments: Any, **more: Any) -> Any:
        began = time.process_time()
        answer = ask(*arguments, **more)
        seconds["questions"].append(time.process_time() - began)
        return answer

    def searched(*arguments: Any, **more: Any) -> Any:
        began = time.process_time()
        answer = look(*arguments, **more)
        seconds["search"].append(time.process_time() - began)
        return answer

    solve.Solver.minimise, search.solve = minimise, searched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the files here")
    parser.add_argument("--times", action="store_true", help="with a row of times")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"questions": [], "search": []}
    timed(seconds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        write(folder, 0, times=arguments.times)
        began = time.process_time()
        run = ["plan", str(folder / "table.surg"), "--table", str(folder / "table.csv")]
        code = surgery([*run, "--exact", "--top", "3", "--distance", "20"])
        total = time.process_time() - began
    if code:
        sys.exit(code)
    for name, each in seconds.items():
        print(f"{name:>10}: {sum(each):6.3f} s; {' '.join(f'{s:.3f}' for s in each)}")
    print(f"   command: {total:6.3f} s")


if __name__ == "__main__":
    main()
