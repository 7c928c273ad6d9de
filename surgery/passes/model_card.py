"""Child -> README.md of its checkpoint: what was cut from what, what it lost, how to serve it.

In: a child, measured or not. Out: the text of `model_card.md` beside this module, filled in: the
same for the same child, without dates, hosts and paths. Refuses nothing. What is said of engines is
what `tests/engines` holds them to: vLLM 0.32, and llama.cpp with files in the format that it reads.
"""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import groupby
from string import Template
from typing import TYPE_CHECKING

from msgspec.structs import replace

from surgery import lockfile
from surgery import plan as plans
from surgery.arch.cache import only_cache
from surgery.arch.configs import stock_config
from surgery.ir import Attention, Experts, Layer, Linear
from surgery.passes import cost
from surgery.passes.emit_child import Child
from surgery.units import format_params, significant

if TYPE_CHECKING:
    from surgery.scoring.assembled import Assembled

_NATIVE = frozenset({"GptOssPuzzleForCausalLM", "DeciLMLayerwiseForCausalLM"})
"""Architectures that the plugin has and vLLM has not."""


def model_card(child: Child) -> str:
    """The text of the file."""
    model, plan = child.model, child.plan
    template = Template((files("surgery.passes") / "model_card.md").read_text("utf-8"))
    text = template.substitute(
        front="\n".join(
            ("library_name: transformers", *_base_model(model.source), "tags:", "- surgery")
        ),
        name=child.name,
        about=child.about,
        parent=model.source,
        digest=model.digest[: lockfile.DIGEST],
        toolchain=plan.toolchain.split(" ", maxsplit=1)[0],
        decision=lockfile.decision(plan)[: lockfile.DIGEST],
        sizes="\n".join(_sizes(child)),
        changes="\n".join(_changes(child)),
        quality="\n".join(_quality(child)),
        cache=_cache(child),
        transformers=_transformers(child),
        vllm=_vllm(child),
        llamacpp=_llamacpp(child),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _base_model(source: str) -> list[str]:
    """`hf:org/name@revision` names a model that the Hub can link to."""
    kind, _, rest = source.partition(":")
    return [f"base_model: {rest.partition('@')[0]}"] if kind == "hf" else []


# ---- what it is ------------------------------------------------------------------------------

_NAMES = {"params": "parameters", "weights": "weights"}


def _sizes(child: Child) -> list[str]:
    """Parameters, bytes and KV cache, of the parent and of the child."""
    context = child.model.context
    costs = (cost.fixed(child.model), *(candidate.cost for candidate in child.chosen))
    before = plans.sizes(cost.parent_costs(child.model), context)
    rows = zip(before, plans.sizes(costs, context), strict=True)
    return [f"| {_size(name)} | {old} | {new} |" for (name, old), (_, new) in rows]


def _size(name: str) -> str:
    return _NAMES.get(name) or f"KV cache at {name.removeprefix('kv@')} tok"


def _changes(child: Child) -> list[str]:
    rope = child.plan.rope
    said = [f"Positions are stretched by YaRN with the factor {rope}, in all layers."]
    said = [*said, ""] if rope else []
    changed = sorted(
        (c for c in child.chosen if c.changed), key=lambda c: (c.site, c.text, c.layer)
    )
    if not changed:
        return [*said, "Nothing was changed: every tensor is the parent's."]
    rows = [
        f"| {site} | {text} | {lockfile.ranges(c.layer for c in group)} |"
        for (site, text), group in groupby(changed, key=lambda c: (c.site.value, c.text))
    ]
    return [*said, "| block | became | in layers |", "|---|---|---|", *rows]


# ---- what it lost ----------------------------------------------------------------------------


def _quality(child: Child) -> list[str]:
    """The measurements of `compile`; a child that was only planned has none."""
    judged, predicted = child.judgement, dict(child.plan.metrics)
    if judged is None:
        return ["Not measured."]
    rows = [
        f"| {each.score} | {each.dataset} | {predicted.get(each.score, '')} "
        f"| {each.measured.kl_text} |"
        for each in judged.scores
    ]
    told = ["Damage is the mean KL divergence from the parent, in nats per token."]
    if rows:
        head = "| damage | text | predicted by the plan | measured |"
        told += ["", head, "|---|---|---|---|", *rows]
    if judged.heldout is None:
        return [*told, "", "It was not judged on text that the search had not seen."]
    params = dict(child.plan.metrics).get("params", format_params(child.params))
    told += ["", f"On `{judged.dataset}`, which the search did not measure with:"]
    told += ["", "| | parameters | KL to parent | perplexity |", "|---|---|---|---|"]
    parent = format_params(child.model.params)
    told.append(f"| parent | {parent} | 0 | {significant(judged.heldout.parent_perplexity)} |")
    told.append(_judged("this model", params, judged.heldout))
    if judged.uniform is not None:
        rival = judged.uniform
        told.append(_judged(f"uniform {rival.text}", format_params(rival.params), rival.result))
    return told


def _judged(name: str, params: str, result: Assembled) -> str:
    return f"| {name} | {params} | {result.kl_text} | {significant(result.child_perplexity)} |"


# ---- how to serve it -------------------------------------------------------------------------


def _attentions(child: Child) -> list[Attention]:
    return [layer.attends for layer in child.layers if layer.attends is not None]


def _cache(child: Child) -> str:
    """What FP8 caches need, where the plan stores any so."""
    fp8 = [n.index for n in child.layers if n.attends and n.attends.kv_dtype == "fp8_e4m3"]
    if not fp8:
        return ""
    return (
        f"K and V of layers {lockfile.ranges(fp8)} are to be cached in FP8 (E4M3). Their scales "
        "come with the weights, as\n`self_attn.k_scale` and `self_attn.v_scale`: a number is "
        "stored as x / scale. Transformers ignores them and\ncaches in the model's own precision."
    )


def _transformers(child: Child) -> str:
    """How to load it; why it takes `trust_remote_code`, where it does."""
    ours = "auto_map" in child.config
    option = ", trust_remote_code=True" if ours else ""
    lines = [f"Layers differ, so the model class (`{child.model_type}`) comes with the checkpoint."]
    if len({a.window for a in _attentions(child) if a.window is not None}) > 1:
        lines.append(
            "So do their windows: engines that give all layers one, such as vLLM through its\n"
            "Transformers backend, run it without an error and compute something else."
        )
    code = _code("python", *_LOADING, f'{_LOAD}("checkpoint"{option})')
    return "\n".join((*lines, "", code) if ours else (code,))


_LOADING = ("from transformers import AutoModelForCausalLM", "")
_LOAD = "model = AutoModelForCausalLM.from_pretrained"


def _code(language: str, *lines: str) -> str:
    return "\n".join((f"```{language}", *lines, "```"))


def _vllm(child: Child) -> str:
    """Stock vLLM where it computes the same, the plugin where it does not."""
    flags = _cache_flags(child)
    if any(isinstance(b, Linear) for n in child.layers for b in (n.attention, n.mlp)):
        return "It has no linear blocks, and surgery's plugin refuses them."
    if any(attention.sinks for attention in _attentions(child)):
        return "It has no windows with sink tokens, and surgery's plugin refuses such layers."
    if child.architecture in _NATIVE:
        told = (
            "With the plugin in the Python package of surgery it has classes for such layers, and "
            "runs no code of\nthe checkpoint."
        )
        return f"{told}\n\n{_code('sh', f'vllm serve checkpoint{flags}')}"
    if "auto_map" not in child.config:
        return _code("sh", f"vllm serve checkpoint{flags}") + _parity(child)
    if child.architecture == "DeciLMForCausalLM":
        told = "The class is vLLM's own; the flag is for that of the config, which comes along."
        serve = f"vllm serve checkpoint --trust-remote-code{flags}"
        return f"{told}\n\n{_code('sh', serve)}"
    return f"It has no class for `{child.model_type}`, and surgery's plugin has none either."


def _cache_flags(child: Child) -> str:
    """What vLLM has to be told of FP8 caches, unless the config does."""
    caches = {n.index: n.attends.kv_dtype for n in child.layers if n.attends is not None}
    if "fp8_e4m3" not in caches.values() or only_cache(child.config.get("quantization_config")):
        return ""
    others = [str(index) for index, dtype in caches.items() if dtype == "bf16"]
    skipped = f" --kv-cache-dtype-skip-layers {' '.join(others)}" if others else ""
    return f" --kv-cache-dtype fp8{skipped}"


def _parity(child: Child) -> str:
    """A warning where windows lie in other layers than engines think."""
    even = ["sliding_attention", "full_attention"] * len(child.layers)
    types = child.config.get("layer_types")
    if child.model_type != "gpt_oss" or types == even[: len(child.layers)]:
        return ""
    return (
        "\n\nvLLM 0.32 and TensorRT-LLM give every second layer the window, whatever "
        "`layer_types` says, and would\nrun this model wrongly."
    )


def _llamacpp(child: Child) -> str:
    """Whether its formats can hold the layers."""
    if child.architecture == "DeciLMForCausalLM" and _decis(child):
        return "Its architecture `deci` has widths, KV heads and missing blocks per layer, as here."
    if "auto_map" not in child.config:
        return f"As of the parent: the checkpoint is an ordinary `{child.model_type}`."
    if _padded(child):
        return (
            "It knows one number of experts for all layers. A twin has that and computes the "
            "same; it takes more\nmemory, and is there to compare engines.\n\n"
            + _code("sh", "surgery twin checkpoint --bf16 --padded -o twin")
        )
    return "Its formats cannot hold layers that differ as these do."


def _decis(child: Child) -> bool:
    """Without windows; and a layer with attention has an FFN, or its attention would be lost."""
    layers = child.layers
    return all(n.mlp is not None or n.attention is None for n in layers) and not any(
        a.window for a in _attentions(child)
    )


def _padded(child: Child) -> bool:
    """Whether layers differ in their number of experts alone, and a router bias can hide some."""
    experts = [layer.mlp for layer in child.layers if isinstance(layer.mlp, Experts)]
    if child.model_type != "gpt_oss_puzzle" or not experts:
        return False
    most = max(block.count for block in experts)
    filled = tuple(_filled(layer, most) for layer in child.layers)
    return stock_config(child.model, filled) is not None


def _filled(layer: Layer, experts: int) -> Layer:
    attention = replace(layer.attends, kv_dtype="bf16") if layer.attends else layer.attention
    mlp = replace(layer.mlp, count=experts) if isinstance(layer.mlp, Experts) else layer.mlp
    return Layer(layer.index, attention, mlp)
