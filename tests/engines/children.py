"""`python children.py OUT`: tiny parents, and the children that engines are tried on.

In: a folder. Out: in it, everything that the tests in this folder serve, made by `surgery` from a
parent made here. Runs in the project's own venv, where the compiler is; the engines' venv has none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import make_gpt_oss, make_llama, write_text
from emit_fixtures import pack_experts

ROPE = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    # llama.cpp knows no other.
    "truncate": True,
    "original_max_position_embeddings": 64,
}

HEAD = """surg 1

import "std/moe.surg" as moe
import "std/kv.surg" as kv

model parent = local("{parent}")

dataset text = local("text.jsonl") {{
  take   = 2
  length = 64 tok
  seed   = 0
}}

score damage = swap_one(metric: kl(logits), on: text)
"""

TAIL = """
require weights <= 101% * parent.weights

minimize damage
"""

EXPERTS = """
choose experts in layers[0, 3] { retain 4 by moe.contribution(text) }
choose experts in layers[1, 5] { retain 6 by moe.contribution(text) }
"""
WINDOW = "choose attention in layers[3] { window 32 tok }\n"
WINDOWS = """
choose attention in layers[1] { window 16 tok }
choose attention in layers[2] { window 32 tok }
"""
FP8 = "apply kv_cache {{ dtype = fp8_e4m3 scales = {} }}\n"

SPECS = {
    # Two expert counts and the parent's; windows of 16, 32 and none.
    "puzzle": ("gpt_oss", EXPERTS + WINDOW),
    # With rotary embeddings that are not YaRN, in the words of vLLM's gpt-oss.
    "plain": ("plain_parent", EXPERTS),
    # Differs in its experts alone: what a padded twin is for.
    "experts": ("gpt_oss", EXPERTS),
    "mxfp4": ("mxfp4_parent", EXPERTS + WINDOW + FP8.format("kv.max_calibrated(text)")),
    # The same weights with two scales.
    "fp8": ("gpt_oss", EXPERTS + WINDOW + FP8.format("kv.max_calibrated(text)")),
    "fp8_unit": ("gpt_oss", EXPERTS + WINDOW + FP8.format("kv.unit")),
    "fp8_some": (
        "gpt_oss",
        EXPERTS + "choose kv_cache in layers[1, 4] { fp8_e4m3 by kv.max_calibrated(text) }\n",
    ),
    # Without and with a word about the cache in config.json, which makes it the stock format.
    "fp8_silent": ("gpt_oss", FP8.format("kv.max_calibrated(text)")),
    "fp8_told": (
        "gpt_oss",
        FP8.format("kv.max_calibrated(text)")
        + 'emit checkpoint "fp8_told" { kv_scheme = modelopt }\n',
    ),
    # What vLLM's own DeciLM runs rightly: no-ops, KV heads, widths, one window.
    "deci": (
        "llama",
        """
choose attention in layers[1] { noop }
choose attention in layers[2] { window 16 tok }
choose attention in layers[3] { kv_heads 1 init mean }
choose ffn in layers[0] { width 96 by channel_contribution(text) }
choose ffn in layers[2] { noop }
""",
    ),
    # And what it does not.
    "deci_windows": ("llama", WINDOWS),
    "deci_first": ("llama", "\nchoose attention in layers[0] { noop }\n"),
    "deci_fp8": ("llama", WINDOWS + FP8.format("kv.max_calibrated(text)")),
}
TWINS = {
    "experts_padded": ("experts", ["--padded"]),
    "mxfp4_bf16": ("mxfp4", ["--bf16"]),
}


def main(out: Path) -> None:
    """Make everything below `out`."""
    from surgery.cli import main as surgery

    fields = {"num_hidden_layers": 6, "rope_parameters": ROPE, "head_dim": 32}
    make_gpt_oss(out / "gpt_oss", **fields)
    pack_experts(make_gpt_oss(out / "mxfp4_parent", **fields))
    default = {"rope_type": "default", "rope_theta": 10000.0}
    make_gpt_oss(out / "plain_parent", **(fields | {"rope_parameters": default}))
    # The same windows in the other layers: `layer_types` says so.
    swapped = ["full_attention", "sliding_attention"] * 3
    make_gpt_oss(out / "swapped", **fields, layer_types=swapped)
    make_llama(out / "llama", head_dim=32)
    write_text(out / "text.jsonl")
    os.chdir(out)
    for name, (parent, choices) in SPECS.items():
        spec = out / f"{name}.surg"
        spec.write_text(HEAD.format(parent=parent) + choices + TAIL, encoding="utf-8")
        if surgery(["compile", str(spec), "-o", name, "--library", "library"]) != 0:
            raise SystemExit(f"{name} was not compiled")
    for name, (child, options) in TWINS.items():
        if surgery(["twin", f"{child}/checkpoint", *options, "-o", name]) != 0:
            raise SystemExit(f"{name} was not written")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
