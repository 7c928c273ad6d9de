"""Parents that are a `config.json` alone, and lint as the command does it, up to the findings."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from surgery.diagnostics import Diagnostic, Severity
from surgery.ir import Measured
from surgery.linting import fixing
from surgery.linting.run import Linted, Options, conclude, lint
from surgery.source import Source

MOE: dict[str, object] = {
    "model_type": "gpt_oss",
    "hidden_size": 64,
    "intermediate_size": 64,
    "vocab_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "max_position_embeddings": 1024,
    "attention_bias": True,
    "tie_word_embeddings": False,
}
DENSE: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "vocab_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}

WORLD = """
dataset text = local("text.jsonl") {
  take   = 4
  length = 256 tok
}

score damage = swap_one(metric: kl(logits), on: text)
"""
EXPERTS = """
choose experts in layers {
  keep
  retain 4 by moe.contribution(text)
}
"""
WINDOW = """
choose attention in layers where attention is full {
  keep
  window 32 tok
}
"""
FFN = """
choose ffn in layers {
  keep
  width 64 by channel_contribution(text)
}
"""
SIZE = "require @size weights <= 90% * parent.weights\n"
KV = "require @kv kv(512 tok) <= 60% * parent.kv(512 tok)\n"


def moe(*statements: str, objective: str = "minimize damage") -> str:
    """A spec about a mixture of 8 experts, 4 layers that alternate between 16 tok and all."""
    head = 'surg 1\n\nimport "std/moe.surg" as moe\n\nmodel parent = local("moe")\n' + WORLD
    return "\n".join([head, *statements, f"\n{objective}\n"])


def dense(*statements: str, objective: str = "minimize damage") -> str:
    """A spec about 4 dense layers of width 128 with full attention."""
    head = 'surg 1\n\nmodel parent = local("dense")\n' + WORLD
    return "\n".join([head, *statements, f"\n{objective}\n"])


class Bench:
    """A folder with two parents; lints texts as if they lay there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = Options(folder / "cache")
        for name, config in (("moe", MOE), ("dense", DENSE)):
            self.parent(name, config)

    def parent(self, name: str, config: dict[str, object]) -> None:
        """Another parent, or another config for one."""
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def lint(self, text: str) -> Linted:
        """Everything that is known of a text."""
        return lint(Source(str(self.folder / "spec.surg"), text), self.options)

    def found(self, text: str, code: str) -> list[Diagnostic]:
        """The findings of one code; a spec with errors cannot show anything."""
        linted = self.lint(text)
        errors = [d for d in linted.findings if d.severity is Severity.ERROR]
        assert not errors or code[0] == "E", [d.message for d in errors]
        assert linted.subject.model is not None or errors
        return [d for d in linted.findings if d.code.id == code]

    def one(self, text: str, code: str) -> Diagnostic:
        """The only finding of one code."""
        (found,) = self.found(text, code)
        return found

    def measured(self, text: str, damage: dict[str, dict[str, float]]) -> tuple[Diagnostic, ...]:
        """The findings about a text when the library knows these damages."""
        linted = self.lint(text)
        subject = replace(linted.subject, measured=Measured(damage, ""))
        return conclude(subject, (), self.options.levels)

    def fixed(self, text: str, code: str) -> str:
        """The text after its fixes, which remove the findings of the code and add none."""
        before = {d.code.id for d in self.lint(text).findings}
        source = Source(str(self.folder / "spec.surg"), text)
        made = fixing.fix(source, lambda each: self.lint(each.text).findings, unsafe=True)
        after = {d.code.id for d in made.left}
        assert code in before
        assert code not in after
        assert after <= before
        return made.source.text


def labelled(found: Diagnostic) -> list[tuple[str, str]]:
    """What each label marks and says, the primary one first."""
    labels = sorted(found.labels, key=lambda each: not each.primary)
    return [(label.span.text, label.text) for label in labels]
