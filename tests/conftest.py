"""Fixtures for whole runs: tiny checkpoints made on the fly, text to measure on, a spec to edit.

The tiny models are random but real: Transformers makes and saves them, so names, shapes and
dtypes are those of the family.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

# Before torch is imported anywhere: idle threads must sleep, and nothing may ask a hub.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "then",
    "it",
    "ran",
    "far",
    "from",
    "home",
    "to",
    "see",
    "what",
    "was",
    "new",
    "in",
    "town",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` rewrites the snapshots of the book and of the golden files in place."""
    parser.addoption("--update-golden", action="store_true", help="rewrite snapshots in place")


def golden(path: Path, text: str, request: pytest.FixtureRequest) -> None:
    """A text is what its golden file says; `--update-golden` makes the file say so."""
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} is stale (`--update-golden`)"


def untyped(module: str) -> Any:
    """A library that ships no usable types, imported when a test needs it."""
    return importlib.import_module(module)


def write_text(path: Path, documents: int = 40, shift: int = 0) -> None:
    """Deterministic prose with repeats, one JSON document per line; another one per `shift`."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(documents):
            words = [WORDS[(number * 7 + i * i + shift * i) % len(WORDS)] for i in range(60)]
            file.write(json.dumps({"text": " ".join(words)}) + "\n")


def write_tokenizer(directory: Path) -> int:
    """A byte-level tokenizer (no merges) with an end-of-text token; returns its vocabulary size."""
    library = untyped("tokenizers")
    pre_tokenizers = library.pre_tokenizers
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: number for number, char in enumerate(alphabet)}
    vocabulary["<|end|>"] = len(vocabulary)
    tokenizer = library.Tokenizer(library.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(fields), encoding="utf-8")
    return len(vocabulary)


def make_llama(directory: Path, **changes: object) -> Path:
    """A 4-layer random llama in BF16: hidden 64, 4 query and 2 KV heads of 16, FFN 128, tied."""
    torch, transformers = untyped("torch"), untyped("transformers")
    directory.mkdir(parents=True)
    vocabulary = write_tokenizer(directory)
    fields: dict[str, object] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": vocabulary,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": vocabulary - 1,
        "initializer_range": 0.15,
    }
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(fields | changes)))
    model.to(torch.bfloat16).save_pretrained(directory)
    return directory


def make_gpt_oss(directory: Path, **changes: object) -> Path:
    """A 4-layer random gpt-oss in BF16: 8 experts top-2, window 16 alternating with full."""
    torch, transformers = untyped("torch"), untyped("transformers")
    directory.mkdir(parents=True)
    vocabulary = write_tokenizer(directory)
    fields: dict[str, object] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": vocabulary,
        "sliding_window": 16,
        "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "bos_token_id": None,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
        "initializer_range": 0.15,
    }
    torch.manual_seed(0)
    model = transformers.GptOssForCausalLM(transformers.GptOssConfig(**(fields | changes)))
    model.to(torch.bfloat16).save_pretrained(directory)
    return directory


def make_qwen3_moe(directory: Path, **changes: object) -> Path:
    """A 4-layer random Qwen3-MoE in BF16: 8 experts top-2, but for layer 1, an FFN of 96."""
    fields: dict[str, object] = {
        "intermediate_size": 96,
        "moe_intermediate_size": 32,
        "num_experts": 8,
        "mlp_only_layers": [1],
        "norm_topk_prob": True,
    }
    return _make_sparse(directory, "Qwen3Moe", fields | changes)


def make_mixtral(directory: Path, **changes: object) -> Path:
    """A 4-layer random Mixtral in BF16: 8 experts of 64, top-2, no window."""
    fields: dict[str, object] = {"intermediate_size": 64, "num_local_experts": 8}
    return _make_sparse(directory, "Mixtral", fields | changes)


def _make_sparse(directory: Path, name: str, changes: dict[str, object]) -> Path:
    torch, transformers = untyped("torch"), untyped("transformers")
    directory.mkdir(parents=True)
    vocabulary = write_tokenizer(directory)
    fields: dict[str, object] = {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_experts_per_tok": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": vocabulary,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": vocabulary - 1,
        "initializer_range": 0.15,
    }
    config = getattr(transformers, f"{name}Config")(**(fields | changes))
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    model.to(torch.bfloat16).save_pretrained(directory)
    return directory


class Workplace(Struct, frozen=True):
    """A folder with two tiny parents and text, and a way to run the command line in it."""

    folder: Path
    library: Path

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def run(self, command: str, *arguments: str) -> int:
        """Run `surgery COMMAND ...` in this process and return its exit code."""
        from surgery.cli import main

        options = ["--library", str(self.library)] if command in {"plan", "compile"} else []
        return main([command, *arguments, *options])


@pytest.fixture(scope="session")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `llama/`, `gpt_oss/` and `text.jsonl`; read only by agreement."""
    folder = tmp_path_factory.mktemp("parents")
    make_llama(folder / "llama")
    make_gpt_oss(folder / "gpt_oss")
    write_text(folder / "text.jsonl")
    return folder


@pytest.fixture(scope="session")
def hf_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One home for code that Transformers copies from checkpoints: a process can have no two."""
    dynamic = untyped("transformers.dynamic_module_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture(scope="session")
def sparse_parents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `qwen3_moe/`, `mixtral/` and `text.jsonl`; read only by agreement."""
    folder = tmp_path_factory.mktemp("sparse")
    make_qwen3_moe(folder / "qwen3_moe")
    make_mixtral(folder / "mixtral")
    write_text(folder / "text.jsonl")
    return folder


@pytest.fixture(scope="session")
def shared_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One library for all whole runs: what one test measured, the next one finds."""
    return tmp_path_factory.mktemp("library")


@pytest.fixture
def workplace(
    parents: Path, shared_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workplace:
    """A fresh folder with links to the tiny parents, current while the test runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("llama", "gpt_oss", "text.jsonl"):
        (folder / name).symlink_to(parents / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return Workplace(folder, shared_library)


LLAMA_SPEC = """surg 1

## A tiny llama on a diet.

model parent = local("llama")

## Fraction of the parent's parameters to keep.
input share: ratio = 85%

dataset text = local("text.jsonl") {
  take   = 4
  length = 64 tok
  seed   = 0
}

score damage = swap_one(metric: kl(logits), on: text)

choose attention in layers except layers[0] {
  keep
  kv_heads 1 init mean
  window 16 tok
  noop
}

choose ffn in layers {
  keep
  width 96 | 64 by channel_contribution(text)
}

require @size params <= share * parent.params
require @kv   kv(64 tok) <= 90% * parent.kv(64 tok)

minimize damage
"""

GPT_OSS_SPEC = """surg 1

## A tiny mixture of experts on a diet.

import "std/moe.surg" as moe

model parent = local("gpt_oss")

dataset text = local("text.jsonl") {
  take   = 4
  length = 64 tok
  seed   = 0
}

score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers {
  keep
  retain 6 | 4 by moe.contribution(text)
}

choose attention in layers where attention is full {
  keep
  window 32 tok
}

require @size    weights <= 85% * parent.weights
require @windows count(layers where attention is full) >= 1

minimize damage
"""


@pytest.fixture
def edited() -> Callable[[str, str, str], str]:
    """Replace one piece of a spec, refusing a piece that is not there exactly once."""

    def edit(spec: str, old: str, new: str) -> str:
        assert spec.count(old) == 1, f"{old!r} occurs {spec.count(old)} times"
        return spec.replace(old, new)

    return edit
