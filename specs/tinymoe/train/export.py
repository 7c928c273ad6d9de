"""Write the trained model as a gpt-oss checkpoint, and read it back into the training model.

In: `RUN/checkpoint.pt` of train.py and the tokenizer files already in MODEL.
Out: model.safetensors, config.json and generation_config.json in MODEL: the experts as MXFP4, all
else bfloat16, names and shapes as in gpt-oss. `load` reads such a folder into model.Model, whose
expert matrices then hold exactly the stored values.
Not here: any other layout; one file, no index.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from model import LIMIT, Model, Sizes
from mxfp4 import pack, unpack
from safetensors.torch import load_file, save_file
from tokenizer import END_OF_TEXT, PAD
from tokenizers import Tokenizer
from torch import Tensor

EXPERTS = ("gate_up_proj", "down_proj")
UNCONVERTED = (
    "model.layers.*.self_attn",
    "model.layers.*.mlp.router",
    "model.embed_tokens",
    "lm_head",
)


def interleave(x: Tensor) -> Tensor:
    """Bring [gates | ups] on the last axis into gpt-oss's order: gate, up, gate, up."""
    return torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2)


def separate(x: Tensor) -> Tensor:
    """Undo `interleave`."""
    return torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)


def stored_name(name: str) -> str:
    """Give the checkpoint's name of a parameter of model.Model."""
    for part in EXPERTS:
        name = name.replace(f"mlp.{part}", f"mlp.experts.{part}")
    return name if name.startswith("lm_head") else f"model.{name}"


def tensors(model: Model) -> dict[str, Tensor]:
    """Give the tensors of the checkpoint."""
    stored: dict[str, Tensor] = {}
    for name, parameter in model.state_dict().items():
        value = interleave(parameter) if "gate_up_proj" in name else parameter
        key = stored_name(name)
        if name.endswith(EXPERTS):
            stored[f"{key}_blocks"], stored[f"{key}_scales"] = pack(value)
        else:
            stored[key] = value.to(torch.bfloat16).contiguous()
    return stored


def config(sizes: Sizes, tokenizer: Tokenizer) -> dict[str, object]:
    """Give config.json; the rotary embedding is named the old way and the new way."""
    rope = {"rope_type": "default", "rope_theta": sizes.theta}
    end = tokenizer.token_to_id(END_OF_TEXT)
    kinds = ("full_attention", "sliding_attention")
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": tokenizer.token_to_id(PAD),
        "experts_per_token": sizes.chosen,
        "head_dim": sizes.head_dim,
        "hidden_act": "silu",
        "hidden_size": sizes.hidden,
        "initial_context_length": sizes.positions,
        "initializer_range": 0.02,
        "intermediate_size": sizes.width,
        "layer_types": [kinds[sizes.sliding(i)] for i in range(sizes.layers)],
        "max_position_embeddings": sizes.positions,
        "num_attention_heads": sizes.heads,
        "num_experts_per_tok": sizes.chosen,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.kv_heads,
        "num_local_experts": sizes.experts,
        "output_router_logits": False,
        "quantization_config": {
            "modules_to_not_convert": list(UNCONVERTED),
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": sizes.eps,
        "rope_parameters": rope,
        "rope_scaling": None,
        "rope_theta": sizes.theta,
        "router_aux_loss_coef": 0.01,
        "sliding_window": sizes.window,
        "swiglu_limit": LIMIT,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": sizes.vocabulary,
    }


def export(model: Model, folder: Path) -> None:
    """Write the checkpoint; the tokenizer files must be there already."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    save_file(tensors(model), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    generation = {
        "bos_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "eos_token_id": [tokenizer.token_to_id(END_OF_TEXT)],
        "pad_token_id": tokenizer.token_to_id(PAD),
        "do_sample": True,
    }
    for name, content in (
        ("config", config(model.sizes, tokenizer)),
        ("generation_config", generation),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def load(folder: Path) -> Model:
    """Read a checkpoint that `export` wrote."""
    model, stored = Model(Sizes()), load_file(folder / "model.safetensors")
    state: dict[str, Tensor] = {}
    for name in model.state_dict():
        key = stored_name(name)
        if name.endswith(EXPERTS):
            value = unpack(stored[f"{key}_blocks"], stored[f"{key}_scales"])
        else:
            value = stored[key].float()
        state[name] = separate(value) if "gate_up_proj" in name else value
    model.load_state_dict(state)
    return model


def main() -> None:
    """Export the checkpoint of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args()
    model = Model(Sizes())
    state = torch.load(args.run / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    export(model, args.model)
    size = (args.model / "model.safetensors").stat().st_size
    print(f"step {state['step']}: model.safetensors, {size} bytes")


if __name__ == "__main__":
    main()
