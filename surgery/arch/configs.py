"""Model + child layers -> the child's `config.json`.

In: the parent and what its layers become. Out: a dict for `config.json`, in the simplest format
that says it: the parent's own where nothing changed; the family's stock format where the layers
stay alike; else `gpt_oss_puzzle` (gpt-oss) or `nemotron-nas` (Llama), whose classes travel with
the checkpoint. Refused: nothing; a family without a format of its own is a `ValueError`, because
`resolve` accepts none. Not here: writing it (`passes/emit_files.py`), or the classes
(`surgery_runtime.hf`).

Which format is the stock one: vLLM and TensorRT-LLM give gpt-oss a window in every even layer,
whatever `layer_types` says, and would run another pattern without a word. So a child is stock
only if its pattern is that one, or the parent's own; otherwise it gets a model type that an
engine either knows or refuses. For the same reason a `nemotron-nas` child with two different
windows names no global one: an engine that reads one window from there stops instead.

The rotary embedding is told twice, as `rope_parameters` (Transformers 5) and as `rope_theta` and
`rope_scaling` (engines that read the older keys).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import cast

from surgery.ir import Attention, Experts, Ffn, Layer, Model

Json = dict[str, object]

CLASSES: Mapping[str, Mapping[str, str]] = {
    "gpt_oss_puzzle": {
        "AutoConfig": "configuration_gpt_oss_puzzle.GptOssPuzzleConfig",
        "AutoModelForCausalLM": "modeling_gpt_oss_puzzle.GptOssPuzzleForCausalLM",
    },
    "nemotron-nas": {
        "AutoConfig": "configuration_decilm.DeciLMConfig",
        "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM",
    },
}
"""`auto_map` of every model type that brings its own classes."""

_YARN = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
         "truncate": False, "original_max_position_embeddings": 4096}  # fmt: skip
_DEFAULT_ROPE: Mapping[str, tuple[float, Json]] = {
    "gpt_oss": (150000.0, dict(_YARN)),
    "llama": (10000.0, {"rope_type": "default"}),
}
"""What Transformers assumes where a config says nothing: theta and scaling."""


def child_config(model: Model, layers: tuple[Layer, ...]) -> Json:
    """The child's `config.json`; the parent's own, key by key, when no layer differs."""
    if layers == model.layers:
        return dict(model.config)
    return _uniform(model, layers) or _heterogeneous(model, layers)


def measuring_config(model: Model) -> Json:
    """The parent in the format of children whose layers differ.

    `surgery_runtime.hf.build` makes from it the class that children are measured with.
    """
    return _heterogeneous(model, model.layers)


def rope(config: Mapping[str, object], family: str) -> Json:
    """`rope_parameters`, `rope_theta` and `rope_scaling` that all say the same."""
    theta, scaling = _DEFAULT_ROPE[family]
    told = config.get("rope_parameters") or config.get("rope_scaling")
    if isinstance(told, Mapping):
        scaling = dict(cast("Mapping[str, object]", told))
    scaling = {"rope_type": scaling.get("rope_type", scaling.get("type", "default")), **scaling}
    scaling.pop("type", None)
    said = scaling.pop("rope_theta", None) or config.get("rope_theta") or theta
    plain = scaling["rope_type"] == "default"
    return {
        "rope_parameters": {**scaling, "rope_theta": said},
        "rope_theta": said,
        "rope_scaling": None if plain else scaling,
    }


# ---- the parent's keys -----------------------------------------------------------------------


def _public(config: Mapping[str, object]) -> Json:
    """The parent's keys without those that say how somebody once ran it."""
    private = {"use_cache", "auto_map", "block_configs", "per_layer_config"}
    return {k: v for k, v in config.items() if not k.startswith("_") and k not in private}


def _base(model: Model) -> Json:
    return {**_public(model.config), **rope(model.config, model.family), "use_cache": True}


def _only(values: Sequence[int]) -> int | None:
    """The one value that all have, if they agree."""
    return values[0] if values and len(set(values)) == 1 else None


def _attentions(layers: tuple[Layer, ...]) -> list[Attention]:
    return [layer.attention for layer in layers if layer.attention is not None]


def _windows(layers: tuple[Layer, ...]) -> list[int]:
    """The windows in use, layer by layer."""
    return [a.window for a in _attentions(layers) if a.window is not None]


def _layer_types(layers: tuple[Layer, ...]) -> list[str]:
    return [
        "full_attention"
        if layer.attention is None or layer.attention.window is None
        else "sliding_attention"
        for layer in layers
    ]


# ---- stock formats ---------------------------------------------------------------------------


def _uniform(model: Model, layers: tuple[Layer, ...]) -> Json | None:
    """The stock format with other sizes, if it can say what the layers are."""
    attentions = _attentions(layers)
    blocks = [layer.mlp for layer in layers if layer.mlp is not None]
    kv_heads = _only([a.kv_heads for a in attentions])
    if len(attentions) < len(layers) or len(blocks) < len(layers) or kv_heads is None:
        return None
    sizes: Json = {"num_key_value_heads": kv_heads}
    match model.family:
        case "llama":
            width = _only([block.width for block in blocks])
            if width is None or _windows(layers):
                return None
            sizes["intermediate_size"] = width
        case "gpt_oss":
            count = _only([block.count for block in blocks if isinstance(block, Experts)])
            windows = _stock_windows(model, layers)
            if count is None or windows is None:
                return None
            sizes |= {"num_local_experts": count, **windows}
        case _:
            return None
    base = _base(model)
    if "num_experts" in base and "num_local_experts" in sizes:
        base["num_experts"] = sizes["num_local_experts"]
    stock = {"model_type": model.family, "architectures": _STOCK[model.family]}
    return {**base, **stock, **sizes}


_STOCK = {"llama": ["LlamaForCausalLM"], "gpt_oss": ["GptOssForCausalLM"]}


def _stock_windows(model: Model, layers: tuple[Layer, ...]) -> Json | None:
    """`sliding_window` and `layer_types`, where every engine reads them alike."""
    windows, types = _windows(layers), _layer_types(layers)
    even = ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(len(layers))]
    if types not in (even, _layer_types(model.layers)) or len(set(windows)) > 1:
        return None
    return {"layer_types": types, **({"sliding_window": windows[0]} if windows else {})}


# ---- formats for layers that differ ----------------------------------------------------------


def _heterogeneous(model: Model, layers: tuple[Layer, ...]) -> Json:
    match model.family:
        case "gpt_oss":
            return _puzzle(model, layers)
        case "llama":
            return _nemotron(model, layers)
        case other:
            raise ValueError(f"no format for layers that differ in the family {other!r}")


def _named(model_type: str, architecture: str) -> Json:
    auto_map = dict(CLASSES[model_type])
    return {"model_type": model_type, "architectures": [architecture], "auto_map": auto_map}


def _puzzle(model: Model, layers: tuple[Layer, ...]) -> Json:
    """`gpt_oss_puzzle`, key for key NVIDIA's when only experts and windows differ."""
    counts = [layer.mlp.count for layer in layers if isinstance(layer.mlp, Experts)]
    windows = _windows(layers)
    fallback: Json = {
        "num_local_experts": max(counts, default=0) or model.config.get("num_local_experts")
    }
    if windows:
        fallback["sliding_window"] = min(windows)
    return {
        **_base(model),
        **_named("gpt_oss_puzzle", "GptOssPuzzleForCausalLM"),
        **fallback,
        "layer_types": _layer_types(layers),
        "block_configs": [_puzzle_block(model, layer) for layer in layers],
    }


def _puzzle_block(model: Model, layer: Layer) -> Json:
    block: Json = {}
    match layer.mlp:
        case Experts(count=count):
            block["num_local_experts"] = count
        case None:
            block["no_op_mlp"] = True
        case Ffn():
            raise ValueError(f"layer {layer.index} of a gpt-oss model is dense")
    attention = layer.attention
    block["sliding_window"] = attention.window if attention else None
    if attention is None:
        block["no_op_attention"] = True
    elif attention.kv_heads != model.kv_heads:
        block["num_key_value_heads"] = attention.kv_heads
    return block


def _nemotron(model: Model, layers: tuple[Layer, ...]) -> Json:
    """`nemotron-nas`: nested blocks; global sizes are the largest, as fallbacks."""
    config = _base(model)
    windows = _windows(layers)
    widths = [layer.mlp.width for layer in layers if layer.mlp is not None]
    kv_heads = [a.kv_heads for a in _attentions(layers)]
    config |= _named("nemotron-nas", "DeciLMForCausalLM")
    config["num_key_value_heads"] = max(kv_heads, default=model.kv_heads)
    config["intermediate_size"] = max(widths, default=config.get("intermediate_size"))
    if windows:
        config["layer_types"] = _layer_types(layers)
    if _only(windows) is not None:
        config["sliding_window"] = windows[0]
    activation = config.get("hidden_act", "silu")
    config["block_configs"] = [_nemotron_block(model, layer, activation) for layer in layers]
    return config


def _nemotron_block(model: Model, layer: Layer, activation: object) -> Json:
    attention, mlp = layer.attention, layer.mlp
    ffn: Json = {"no_op": mlp is None, "hidden_act": activation if mlp else None}
    ffn["intermediate_size"] = mlp.width if mlp else None
    if mlp is not None and (factor := ffn_mult(mlp.width, model.hidden)) is not None:
        ffn["ffn_mult"] = factor
    return {
        "attention": {
            "no_op": attention is None,
            "n_heads_in_group": attention.heads // attention.kv_heads if attention else None,
            "window_length": attention.window if attention else None,
            "replace_with_linear": False,
            "sparsify": None,
        },
        "ffn": ffn,
    }


def ffn_mult(width: int, hidden: int) -> float | None:
    """3 * width / (2 * hidden), if readers of it get `width` back.

    vLLM, SGLang and llama.cpp take a width from `ffn_mult` where it is there, rounded up to a
    multiple of 256: a width that does not survive this must come from `intermediate_size`.
    """
    factor = float(Fraction(3 * width, 2 * hidden))
    read = -(-int(2 * factor * hidden / 3) // 256) * 256
    return factor if read == width else None
