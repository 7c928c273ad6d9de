"""vLLM on the CPU, in float32, against Transformers: with our plugin, and as it comes.

80 prompt tokens and 8 greedy ones; at each position the log probabilities of the token itself and
of the five likeliest ones. What this processor has no kernel for is in `kernels.py`.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
import torch
from references import difference, model_of, steps
from serving import PROMPT, Served

from surgery_runtime.hf.layerwise import stored_scales

pytest_plugins = ("serving",)

EXACT = 1e-4
ROUNDED = 0.02
"""An FP8 cache makes steps of differences of 1e-7 here and there, and a step may move a token to
another expert: so medians over positions are compared."""


# ---- with the plugin -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("puzzle", [16, None, 16, 32, 16, None]),
        ("plain", [16, None, 16, None, 16, None]),
        ("mxfp4_bf16", [16, None, 16, 32, 16, None]),
        ("deci", [None, 16, None]),
        ("deci_windows", [None, 16, 32, None]),
        ("deci_first", [None, None, None]),
    ],
)
def test_children_are_served(
    name: str, windows: list[int | None], children: Path, plugged: Served
) -> None:
    told = plugged[name]
    assert told["windows"] == windows
    found = difference(model_of(children / name), PROMPT, told)
    print(f"{name}: max |d logprob| {found:.1e}")
    assert found <= EXACT


def test_layers_of_the_child_differ(children: Path) -> None:
    layers = model_of(children / "puzzle").model.layers
    assert [layer.mlp.router.num_experts for layer in layers] == [4, 6, 8, 4, 8, 6]


def test_packed_experts_are_loaded_layer_by_layer(children: Path, plugged: Served) -> None:
    """The reference is the unpacked twin; the kernel is ours, the loading vLLM's."""
    found = difference(model_of(children / "mxfp4_bf16"), PROMPT, plugged["mxfp4"])
    print(f"mxfp4: max |d logprob| {found:.1e}")
    assert found <= EXACT


def test_refusals_are_those_of_the_processor(plugged: Served) -> None:
    """Everything up to the kernels is there: vLLM refuses nothing of ours before."""
    capability = getattr(torch.cpu, "_is_avx512_supported", lambda: False)
    if not capability():
        assert "requires x86 with AVX-512 or AMX" in plugged["fp8 kernels"]["error"]
        assert "No MXFP4 MoE backend supports" in plugged["mxfp4 kernels"]["error"]


# ---- scales of an FP8 cache ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("fp8", "fp8"),
        ("fp8_unit", "fp8_unit"),
        ("deci_fp8", "deci_fp8"),
        ("mxfp4 fp8", "mxfp4_bf16"),
    ],
)
def test_scales_are_honoured(name: str, reference: str, children: Path, plugged: Served) -> None:
    told, model = plugged[name], model_of(children / reference)
    assert set(told["cached"]) == {"fp8"}
    scales = stored_scales(children / reference / "checkpoint").values()
    assert [list(pair) for pair in scales] == told["scales"]
    without = steps(model, PROMPT, told)
    model.simulate_fp8_cache(children / reference / "checkpoint")
    found = steps(model, PROMPT, told)
    print(f"{name}: |d logprob| median {median(found):.1e}, max {max(found):.1e}", end="; ")
    print(f"without FP8 median {median(without):.1e}, max {max(without):.1e}")
    assert median(found) <= ROUNDED < median(without)


def test_another_scale_is_another_output(plugged: Served) -> None:
    """The same weights, and scales of amax / 448 or of 1."""
    calibrated, unit = plugged["fp8"], plugged["fp8_unit"]
    assert {scale for pair in unit["scales"] for scale in pair} == {1.0}
    assert all(scale < 0.5 for pair in calibrated["scales"] for scale in pair)
    pairs = zip(calibrated["logprobs"][:79], unit["logprobs"][:79], strict=True)
    shared = [abs(a[t] - b[t]) for a, b in pairs for t in a.keys() & b.keys()]
    assert max(shared) > ROUNDED


def test_scales_are_not_rounded_with_the_weights(children: Path, plugged: Served) -> None:
    scales = stored_scales(children / "fp8" / "checkpoint").values()
    assert plugged["fp8 bf16"]["scales"] == [list(pair) for pair in scales]


def test_layers_without_scales_must_be_named(children: Path, plugged: Served) -> None:
    refused = plugged["fp8_some"]["error"]
    assert "--kv-cache-dtype-skip-layers 0 2 3 5" in refused
    told = plugged["fp8_some skipping"]
    assert told["cached"] == ["auto", "fp8", "auto", "auto", "fp8", "auto"]
    model = model_of(children / "fp8_some")
    model.simulate_fp8_cache(children / "fp8_some" / "checkpoint")
    found = steps(model, PROMPT, told)
    print(f"fp8_some: |d logprob| median {median(found):.1e}, max {max(found):.1e}")
    assert median(found) <= ROUNDED


# ---- vLLM as it comes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deci", "experts_padded"])
def test_stock_vllm_serves(name: str, children: Path, stock: Served) -> None:
    found = difference(model_of(children / name), PROMPT, stock[name])
    print(f"{name}, stock: max |d logprob| {found:.1e}")
    assert found <= EXACT


def test_the_padded_twin_is_its_child(children: Path, stock: Served) -> None:
    found = difference(model_of(children / "experts"), PROMPT, stock["experts_padded"])
    assert found <= EXACT


def test_stock_vllm_refuses_what_it_would_run_wrongly(stock: Served) -> None:
    assert "trust_remote_code" in stock["puzzle"]["error"]
    assert "Unrecognized configuration class" in stock["puzzle trusted"]["error"]
    assert "error" in stock["deci_windows"]


def test_why_windows_in_other_layers_are_no_stock_format(children: Path, stock: Served) -> None:
    """vLLM's gpt-oss does not read `layer_types`: no error, another model."""
    told = stock["swapped"]
    assert told["windows"] == [16, None] * 3
    assert difference(model_of(children / "swapped"), PROMPT, told) > 0.1


def test_stock_vllm_takes_scales_where_the_config_tells_of_them(
    children: Path, stock: Served
) -> None:
    # Otherwise it would serve with scales of 1, so its own class is not named.
    assert "trust_remote_code" in stock["fp8_silent"]["error"]
    told = stock["fp8_told"]
    scales = stored_scales(children / "fp8_told" / "checkpoint").values()
    # It keeps them in the dtype of the model; the plugin does not.
    rounded = [[float(each) for each in torch.tensor(pair).bfloat16()] for pair in scales]
    assert told["scales"] == rounded
    assert set(told["cached"]) == {"fp8_e4m3"}
