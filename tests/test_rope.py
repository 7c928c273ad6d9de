"""`apply rope`: the child is the parent with another rotary embedding, by whatever keys it is told.

The reference is Transformers' own parent with the config changed by hand, and YaRN's formula.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LLAMA_SPEC, Workplace, make_gpt_oss, make_llama, write_text
from emit_fixtures import GPT_OSS, LLAMA, Case, prepare, pretrained
from measuring_fixtures import reference_kl
from msgspec.structs import replace

from surgery import diff, lockfile
from surgery import plan as plans
from surgery.arch import rope
from surgery.diagnostics import Sink, Stop
from surgery.library import Library
from surgery.passes import verify
from surgery.progress import silent
from surgery.scoring import data
from surgery.scoring.arrays import from_numpy
from surgery.scoring.assembled import assembled
from surgery.show import diff_text, plan_text

SPECS = Path(__file__).parent.parent / "specs"
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 2.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 64,
}
NAMES = ("llama", "gpt_oss", "yarn", "tinymoe")


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory, hf_modules: None) -> Path:
    """Plain rotary embeddings, and YaRN by a factor of 2."""
    folder = tmp_path_factory.mktemp("turning")
    make_llama(folder / "llama")
    make_gpt_oss(folder / "gpt_oss")
    make_gpt_oss(folder / "yarn", rope_parameters=YARN)
    (folder / "tinymoe").symlink_to(SPECS / "tinymoe")
    write_text(folder / "text.jsonl")
    return folder


def _case(parents: Path, name: str, folder: Path, factor: str = "6") -> Case:
    template = (LLAMA if name == "llama" else GPT_OSS).replace(
        "require", f"apply rope {{{{ factor = {factor} }}}}\nrequire"
    )
    if name == "tinymoe":
        template = template.replace("retain 6 | 4 | 2", "retain 24")
    return prepare(parents, name, {}, folder, "", template)


def _by_hand(parent: Path, factor: float) -> Any:
    """The stock parent with a config that says another factor."""
    from transformers import AutoConfig, AutoModelForCausalLM

    read: Any = AutoConfig
    config = read.from_pretrained(parent)
    before: dict[str, Any] = dict(config.rope_parameters)
    context = config.max_position_embeddings
    original = before.get("original_max_position_embeddings", context)
    told: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
    }
    config.rope_parameters = before | told
    auto: Any = AutoModelForCausalLM
    return auto.from_pretrained(parent, config=config, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", NAMES)
def test_child_is_the_parent_with_another_rotary_embedding(
    name: str, parents: Path, tmp_path: Path
) -> None:
    case = _case(parents, name, tmp_path / "spec")
    out = case.write(tmp_path / "out").directory / "checkpoint"
    tokens = (torch.arange(160).reshape(1, 160) * 37) % 250
    with torch.no_grad():
        child, parent = pretrained(out), pretrained(parents / name)
        expected, found = _by_hand(parents / name, 6.0)(tokens).logits, child(tokens).logits
        assert (parent(tokens).logits - expected).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    sink = Sink()
    assert verify.run(case.plan, "x.plan", case.model, out, sink, silent) is not None
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    new, old = config["rope_parameters"], config["rope_scaling"]
    assert new == {**old, "rope_theta": config["rope_theta"]}
    assert (new["rope_type"], new["factor"]) == ("yarn", 6.0)
    # Either set of keys alone says the same to whoever reads only that.
    for dropped in (("rope_parameters",), ("rope_scaling", "rope_theta")):
        (out / "config.json").write_text(
            json.dumps({k: v for k, v in config.items() if k not in dropped}), encoding="utf-8"
        )
        again = pretrained(out)
        assert torch.equal(again.model.rotary_emb.inv_freq, child.model.rotary_emb.inv_freq)


def test_frequencies_are_those_of_yarn(parents: Path, tmp_path: Path) -> None:
    case = _case(parents, "yarn", tmp_path / "spec", "6.5")
    out = case.write(tmp_path / "out").directory / "checkpoint"
    rotary = pretrained(out).model.rotary_emb
    size, base, original, factor = 32, 10000.0, 64, 6.5

    def dimension(turns: float) -> float:
        return size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(dimension(32.0), 0), min(dimension(1.0), size - 1)
    for n in range(size // 2):
        slow = min(max((n - low) / (high - low), 0), 1)
        plain = base ** (-2 * n / size)
        expected = plain * (1 - slow) + plain / factor * slow
        assert float(rotary.inv_freq[n]) == pytest.approx(expected, rel=1e-5)
    assert rotary.attention_scaling == pytest.approx(0.1 * math.log(factor) + 1)


def test_the_finished_child_is_measured_with_it(parents: Path, tmp_path: Path) -> None:
    case = _case(parents, "yarn", tmp_path / "spec")
    space, spec, library = case.space, case.spec, Library(tmp_path / "library")
    (dataset,) = spec.datasets
    found = assembled(spec, space, case.chosen, dataset, library)
    text = data.read_text(dataset, spec.folder)
    encode, end = data.load_tokenizer(case.model), data.end_of_text(case.model)
    drawn = from_numpy(data.draw(dataset, text, encode, end).tokens)
    parent, child = pretrained(parents / "yarn"), _by_hand(parents / "yarn", 6.0)
    expected = float(reference_kl(parent, child, drawn, drawn.shape[1]).mean())
    assert found.kl == pytest.approx(expected, rel=1e-4)
    assert found.kl > 1e-4
    # The library tells children with and without it apart.
    plain = prepare(parents, "yarn", {}, tmp_path / "plain", "", GPT_OSS)
    assert assembled(plain.spec, plain.space, plain.chosen, dataset, library).kl == 0
    assert assembled(spec, space, case.chosen, dataset, library) == found


def test_a_plan_keeps_it(parents: Path, tmp_path: Path) -> None:
    plan = _case(parents, "yarn", tmp_path / "a", "6.5").plan
    text = lockfile.text(plan)
    assert "\napply rope factor=6.5\nlayer 00 " in text
    assert lockfile.parse(text, "x").rope == "6.5"
    assert plans.from_json(plans.to_json(plan)) == plan
    other = _case(parents, "yarn", tmp_path / "b", "8").plan
    assert lockfile.decision(plan) != lockfile.decision(other)
    change = diff.diff(plan, other)
    assert not change.same_decisions
    assert diff.patch(plan, change).rope == "8"
    assert "YaRN factor 6.5 -> YaRN factor 8" in diff_text(change, "a", "b")
    assert "YaRN factor 6.5 in all layers" in plan_text(plan)
    edited = lockfile.parse(text.replace("factor=6.5", "factor=9"), "x")
    assert edited.stated is not None
    for wrong in ("factor=0", "factor=x", "factor=6.5 a=b", "factor=06"):
        with pytest.raises(Stop):
            lockfile.parse(text.replace("factor=6.5", wrong), "x")


def test_what_another_kind_of_scaling_has_is_left_alone(parents: Path, tmp_path: Path) -> None:
    model = _case(parents, "yarn", tmp_path / "a").model
    assert (rope.kind(model), rope.factor(model)) == ("yarn", 2.0)
    assert (rope.kind(rope.stretched(model, 3.0)), rope.factor(rope.stretched(model, 3.0))) == (
        "yarn",
        3.0,
    )
    scaled = {"rope_type": "llama3", "factor": 8.0}
    linear = replace(model, config={**model.config, "rope_parameters": scaled})
    with pytest.raises(ValueError, match="llama3"):
        rope.stretched(linear, 3.0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("apply rope { factor = 4 }\napply rope { factor = 8 }", "E0404"),
        ("apply rope in layers { factor = 4 }", "E0303"),
        ("apply rope { factor = 0.5 }", "E0309"),
        ("apply rope { factor = 4 tok }", "E0302"),
        ("apply rope { }", "E0207"),
        ("apply rope { by = 4 }", "E0206"),
    ],
)
def test_mistakes_are_findings(
    text: str, code: str, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace.write(
        "a.surg", LLAMA_SPEC.replace("require @size", f"{text}\n\nrequire @size")
    )
    assert workplace.run("check", path) == 1
    assert f"error[{code}]" in capsys.readouterr().err
