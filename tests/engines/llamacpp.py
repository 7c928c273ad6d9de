"""`python llamacpp.py CHECKPOINT GGUF PROMPT ANSWER`: a stock gpt-oss checkpoint in llama.cpp.

In: a checkpoint in the stock format (what `surgery twin --padded` writes), a JSON list of tokens.
Out: a GGUF file in float32, with the window of each layer as an array, and a JSON object as
`serve.py` gives it, for the generated tokens alone. Refused: nothing; llama.cpp ends the process.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

GENERATED = 12
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.sinks": "attn_sinks.weight",
    "mlp.router": "ffn_gate_inp",
    "mlp.experts.gate_up_proj": "",
    "mlp.experts.down_proj": "ffn_down_exps",
}


def write(checkpoint: Path, path: Path) -> None:
    """Write the GGUF file."""
    gguf: Any = importlib.import_module("gguf")
    safetensors: Any = importlib.import_module("safetensors.torch")
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    rope = config["rope_parameters"]
    writer = gguf.GGUFWriter(str(path), "gpt-oss")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_count(config["num_local_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_sliding_window(config["sliding_window"])
    # Which layers have it: llama.cpp's own converter leaves this out, and its reader takes it.
    writer.add_array(
        "gpt-oss.attention.sliding_window_pattern",
        [kind == "sliding_attention" for kind in config["layer_types"]],
    )
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    words = [f"<{number}>" for number in range(config["vocab_size"])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(words))
    writer.add_token_merges(["< 0"])
    for shard in sorted(checkpoint.glob("*.safetensors")):
        for name, tensor in safetensors.load_file(shard).items():
            for theirs, part in _parts(name, tensor.float()):
                writer.add_tensor(theirs, part.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _parts(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """A tensor under the names of llama.cpp: [out, in], gate and up apart."""
    block = ""
    if name.startswith("model.layers."):
        number, name = name.removeprefix("model.layers.").split(".", 1)
        block = f"blk.{number}."
    stem, kind = name, ""
    for ending in (".weight", ".bias", "_bias"):
        if name.endswith(ending):
            stem, kind = name.removesuffix(ending), "." + ending[1:]
    if ".experts." in stem and not kind:
        tensor, kind = tensor.transpose(1, 2), ".weight"
    if stem.endswith("gate_up_proj"):
        gate, up = tensor[:, 0::2], tensor[:, 1::2]
        return [(f"{block}ffn_gate_exps{kind}", gate), (f"{block}ffn_up_exps{kind}", up)]
    return [(f"{block}{NAMES[stem]}{kind}", tensor)]


def serve(path: Path, prompt: list[int]) -> dict[str, Any]:
    """Greedy tokens after the prompt, and the log probabilities of the likeliest at each."""
    library: Any = importlib.import_module("xllamacpp")
    params = library.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 256
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    # In floats throughout: by default the cache is F16, and so are parts of flash attention.
    params.cache_type_k = params.cache_type_v = library.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = library.Server(params)
    asked = {"prompt": prompt, "n_predict": GENERATED, "n_probs": 5, "temperature": 0.0}
    told = server.handle_completions(asked | {"cache_prompt": False, "ignore_eos": True})
    answer = json.loads(told) if isinstance(told, str) else told
    steps = answer["choices"][0]["logprobs"]["content"]
    return {
        "tokens": [step["id"] for step in steps],
        "logprobs": [
            {each["id"]: each["logprob"] for each in step["top_logprobs"]} for step in steps
        ],
    }


def main() -> None:
    """Write the file, serve it, write the answer."""
    checkpoint, path, prompt, answer = map(Path, sys.argv[1:5])
    write(checkpoint, path)
    told = serve(path, json.loads(prompt.read_text(encoding="utf-8")))
    answer.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
