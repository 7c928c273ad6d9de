"""Windows that leave the first tokens in sight, for parents whose heads have no learned sinks.

The reference is always the parent itself under an explicit mask.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LLAMA_SPEC, Workplace
from emit_fixtures import ATTENTION, FFN, Case, bench, logits, measured_logits, prepare, pretrained
from modeling_fixtures import LLAMA, layer, stock, tokens
from msgspec.structs import replace

from surgery.diagnostics import Stop
from surgery.edits.attention import SINK_TOKENS
from surgery.ir import Attention, Dataset
from surgery.passes.resolve import read_model
from surgery.scoring.blind import sees
from surgery.sources.fetched import Fetched
from surgery_runtime import hf
from surgery_runtime.load import load

__all__ = ["bench"]

EVERYWHERE = {(n, ATTENTION): "sink_window(5)" for n in range(4)}
LONG = (torch.arange(80).reshape(2, 40) * 37) % 250


def mask(length: int, window: int, sinks: int = 0) -> torch.Tensor:
    """What a query may see, written out: float32 [1, 1, length, length]."""
    rows, columns = torch.arange(length)[:, None], torch.arange(length)[None, :]
    seen = (columns <= rows) & ((rows - columns < window) | (columns < sinks))
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None]


def masked(model: Any, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """A stock model's logits under one mask for all layers."""
    with torch.no_grad():
        return model(ids, attention_mask=seen.expand(len(ids), 1, -1, -1)).logits


# ---- the mask --------------------------------------------------------------------------------


@pytest.mark.parametrize("sinks", [0, 1, 4])
@pytest.mark.parametrize("window", [1, 5, 12, 24, 25, 26, 27, 29, 30])
def test_a_window_and_its_sinks_are_an_explicit_mask(window: int, sinks: int) -> None:
    """Of 30 tokens, bit for bit; nothing is hidden if, and only if, window and sinks are 30."""
    parent = stock(LLAMA)
    model: Any = hf.build(LLAMA)
    model.load_state_dict(parent.state_dict())
    asked = layer(LLAMA, window=window)
    asked["attention"]["sinks"] = sinks
    for index in range(4):
        made = model.make_layer(index, asked)
        made.load_state_dict(model.model.layers[index].state_dict())
        model.model.layers[index] = made
    with torch.no_grad():
        found, whole = model(tokens()).logits, parent(tokens()).logits
    assert torch.equal(found, masked(parent, tokens(), mask(30, window, sinks)))
    assert torch.equal(found, whole) is (window + sinks >= 30)


@pytest.mark.parametrize("length", [16, 17, 20, 21])
@pytest.mark.parametrize("text", ["window(16)", "sink_window(16)"])
def test_the_first_token_that_is_lost(text: str, length: int, bench: Path, tmp_path: Path) -> None:
    """A window of 16 loses a token at 17; with four sinks it does at 21, the fifth."""
    case = prepare(bench, "llama", {(n, ATTENTION): text for n in range(4)}, tmp_path)
    sinks = SINK_TOKENS if text.startswith("sink") else 0
    parent, ids = pretrained(bench / "llama"), LONG[:, :length]
    parent.set_attn_implementation("eager")
    found = measured_logits(case, ids)
    expected = masked(parent, ids, mask(length, 16, sinks))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    whole = masked(parent, ids, mask(length, length))
    assert torch.equal(expected, whole) is (length <= 16 + sinks)
    if length <= 16 + sinks:
        keep = prepare(bench, "llama", {}, tmp_path / "keep")
        assert torch.equal(found, measured_logits(keep, ids))


def test_windows_of_the_embedded_model_are_a_band(tmp_path: Path) -> None:
    """Its full layers get windows of 64: nothing changes up to 64 tokens, bit for bit."""
    specs = Path(__file__).parent.parent / "specs"
    parent = pretrained(specs / "tinymoe")
    parent.set_attn_implementation("eager")
    full = [n for n, kind in enumerate(parent.config.layer_types) if kind == "full_attention"]
    case = prepare(specs, "tinymoe", {(n, ATTENTION): "window(64)" for n in full}, tmp_path)
    own = parent.config.sliding_window
    for length in (64, 65):
        ids = (torch.arange(length)[None] * 37) % 3000
        found = measured_logits(case, ids)
        masks = {"full_attention": mask(length, 64), "sliding_attention": mask(length, own)}
        with torch.no_grad():
            expected, whole = parent(ids, attention_mask=masks).logits, parent(ids).logits
        assert torch.equal(found, expected)
        assert torch.equal(found, whole) is (length <= 64)


# ---- what is written -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def child(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """A llama that sees the first 4 and the last 5 tokens, but for layer 0."""
    folder = tmp_path_factory.mktemp("sinks")
    picks = {**EVERYWHERE, (0, ATTENTION): "window(16)", (1, FFN): "64"}
    case = prepare(bench, "llama", picks, folder)
    case.write(folder / "out")
    return case, folder / "out"


def test_the_shipped_child_computes_what_was_measured(child: tuple[Case, Path]) -> None:
    case, out = child
    shipped = logits(out / "checkpoint", remote=True)
    torch.testing.assert_close(shipped, measured_logits(case), rtol=0, atol=1e-5)
    model: Any = load(out, torch.float32)
    assert [each.sinks for each in model.model.layers] == [0, 4, 4, 4]
    with torch.no_grad():
        torch.testing.assert_close(model(LONG).logits, shipped, rtol=0, atol=1e-5)


def test_it_generates_beyond_its_windows(child: tuple[Case, Path]) -> None:
    model = pretrained(child[1] / "checkpoint", remote=True)
    prompt = LONG[:1, :7]
    said = model.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=None)
    expected = prompt
    with torch.no_grad():
        for _ in range(20):
            token = model(expected).logits[:, -1:].argmax(-1)
            expected = torch.cat([expected, token], dim=1)
    assert torch.equal(said, expected)


def test_sinks_are_the_first_tokens_behind_padding(child: tuple[Case, Path]) -> None:
    model = pretrained(child[1] / "checkpoint", remote=True)
    ids, real = LONG[:1, :30], torch.ones(1, 37, dtype=torch.long)
    real[:, :7] = 0
    padded = torch.cat([torch.zeros(1, 7, dtype=torch.long), ids], dim=1)
    places = (real.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        alone = model(ids).logits
        found = model(padded, attention_mask=real, position_ids=places).logits[:, 7:]
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-4)


def test_every_file_tells_of_sinks_and_engines_that_know_none_refuse(
    child: tuple[Case, Path],
) -> None:
    checkpoint = child[1] / "checkpoint"
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["DeciLMLayerwiseForCausalLM"]
    told = [block["attention"].get("sink_tokens") for block in config["block_configs"]]
    assert told == [None, 4, 4, 4]
    beside = json.loads((checkpoint / "per_layer_config.json").read_text(encoding="utf-8"))
    assert [entry["sink_tokens"] for entry in beside.values()] == [0, 4, 4, 4]
    card = (checkpoint / "README.md").read_text(encoding="utf-8")
    assert "| attention | sink_window(5) | 1-3 |" in card
    assert "It has no windows with sink tokens" in card
    from surgery_runtime.vllm.layers import check_keys

    with pytest.raises(ValueError, match="layer 1 has `sink_tokens`"):
        check_keys(1, config["block_configs"][1]["attention"], frozenset(DECI))


DECI = {"no_op", "n_heads_in_group", "window_length", "replace_with_linear", "sparsify"}


def test_flash_attention_is_refused(child: tuple[Case, Path]) -> None:
    model = pretrained(child[1] / "checkpoint", remote=True)
    model.model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="flash attention has no windows with sink tokens"):
        model(LONG)


def test_mixtures_have_them_too_and_are_read_back(sparse_parents: Path, tmp_path: Path) -> None:
    case = prepare(sparse_parents, "qwen3_moe", EVERYWHERE, tmp_path)
    case.write(tmp_path / "out")
    checkpoint = tmp_path / "out" / "checkpoint"
    torch.testing.assert_close(
        logits(checkpoint, remote=True), measured_logits(case), rtol=0, atol=1e-5
    )
    again = read_model(Fetched(checkpoint, "again"), tmp_path / "cache")
    seen = [n.attention for n in again.layers if isinstance(n.attention, Attention)]
    assert len(seen) == len(again.layers)
    assert {(block.window, block.sinks) for block in seen} == {(5, 4)}
    path = checkpoint / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["block_configs"][2]["sink_tokens"] = -1
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(Stop, match="layer 2: `sink_tokens` is -1"):
        read_model(Fetched(checkpoint, "again"), tmp_path / "cache")


# ---- costs and findings ----------------------------------------------------------------------


def test_the_cache_holds_window_and_sinks(bench: Path, tmp_path: Path) -> None:
    case = prepare(bench, "llama", {}, tmp_path)
    (found,) = (
        c for c in case.space.candidates if c.address == "layer.1.attention.sink_window(16)"
    )
    (plain,) = (c for c in case.space.candidates if c.address == "layer.1.attention.window(16)")
    token = 2 * 2 * 16 * 2
    assert [found.cost.kv_bytes(n) // token for n in (16, 19, 20, 21, 99)] == [16, 19, 20, 20, 20]
    assert [plain.cost.kv_bytes(n) // token for n in (16, 17, 99)] == [16, 16, 16]
    text = Dataset(case.spec.datasets[0].span, "d", "local", "", 1, 20, 0)
    assert not sees(text, found)
    assert sees(replace(text, length=21), found)
    assert found.artefact != plain.artefact
    assert isinstance(found.block, Attention)
    assert (found.block.window, found.block.sinks) == (16, SINK_TOKENS)


def test_parents_with_learned_sinks_need_none(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = """surg 1
model parent = local("gpt_oss")
choose attention in layers where attention is full { keep sink_window 32 tok }
minimize weights
"""
    assert workplace.run("plan", workplace.write("sinks.surg", spec)) == 1
    said = capsys.readouterr().err
    assert "error[E0408]: `sink_window 32 tok` is for models without sinks of their own" in said
    assert "its heads have learned sinks" in said


@pytest.mark.parametrize(("window", "legal"), [(251, True), (252, False), (256, False)])
def test_windows_and_sinks_together_are_below_the_context(
    window: int, legal: bool, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"""surg 1
model parent = local("llama")
choose attention in layers {{ keep sink_window {window} tok }}
minimize kv(256 tok)
"""
    code = workplace.run("plan", workplace.write("sinks.surg", text), "-o", "a.plan")
    assert ("E0408" in capsys.readouterr().err) is not legal
    assert (code == 0) is legal
    if legal:
        plan = (workplace.folder / "a.plan").read_text(encoding="utf-8")
        assert plan.count("attention=sink_window(251)#") == 4


def test_a_spec_is_compiled_verified_and_inspected(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    text = LLAMA_SPEC.replace("  window 16 tok\n", "  sink_window 12 tok\n")
    text = text.replace(
        "require @kv ", "require @sinks count(layers where attention is window) >= 1\nrequire @kv "
    )
    assert workplace.run("compile", workplace.write("llama.surg", text), "-o", "out") == 0
    verify = ("verify", "out/llama.plan", "out/checkpoint", "--parent", "llama")
    assert workplace.run(*verify) == 0
    path = workplace.folder / "out/checkpoint/config.json"
    path.write_text(path.read_text("utf-8").replace('"sink_tokens": 4', '"sink_tokens": 3'))
    assert workplace.run(*verify) == 1
    assert "`block_configs` differs" in capsys.readouterr().err
