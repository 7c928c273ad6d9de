"""Model + child layers -> the child's `config.json`.

In: the parent and what its layers become. Out: a dict for `config.json`, in the simplest format
that says it: the parent's own where nothing changed; the family's stock format where the layers
stay alike; else the format that its data file names, whose classes travel with the checkpoint:
`nemotron-nas` (Llama), or one flat dict of the family's own keys per layer (`gpt_oss_puzzle`, as
NVIDIA's, and `qwen3_moe_puzzle`, `mixtral_puzzle` in its manner). Refused: nothing. Not here:
writing it (`passes/emit_files.py`), or the classes (`surgery_runtime.hf`).

Which format is the stock one: vLLM and TensorRT-LLM give gpt-oss a window in every even layer,
whatever `layer_types` says, and would run another pattern without a word. So a child is stock
only if its pattern is that one, or the parent's own; otherwise it gets a model type that an
engine either knows or refuses. For the same reason a `nemotron-nas` child that vLLM's DeciLM would
run wrongly, because its windows differ, has an architecture name of its own.

The rotary embedding is told twice, as `rope_parameters` (Transformers 5) and as `rope_theta` and
`rope_scaling` (engines that read the older keys).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import cast

from msgspec.structs import replace

from surgery.arch.cache import only_cache
from surgery.arch.family import Fact, Family, family_named
from surgery.arch.geometry import geometry
from surgery.ir import Attention, Experts, Ffn, Layer, Linear, Model, Site
from surgery_runtime.classes import KINDS

Json = dict[str, object]

CLASSES: Mapping[str, Mapping[str, str]] = {name: kind.auto_map for name, kind in KINDS.items()}
"""`auto_map` of every model type that brings its own classes."""


def child_config(model: Model, layers: tuple[Layer, ...], *, told: bool = False) -> Json:
    """The child's `config.json`; the parent's own, key by key, when no layer differs.

    If engines are to be `told` of an FP8 cache, and can be (`kv_scheme`), it says so.
    """
    if layers == model.layers:
        cached = only_cache(model.config.get("quantization_config"))
        return {k: v for k, v in model.config.items() if not cached or k != "quantization_config"}
    scheme = kv_scheme(layers) if told else None
    if scheme is None:
        return _uniform(model, layers) or _heterogeneous(model, layers)
    # Engines then find the scales with their own classes: the cache sets no child apart.
    plain = tuple(_uncached(layer) for layer in layers)
    config = _uniform(model, plain) or _heterogeneous(model, plain)
    return {**config, "quantization_config": scheme}


def _uncached(layer: Layer) -> Layer:
    """The layer with an ordinary KV cache."""
    if layer.attention is None:
        return layer
    return replace(layer, attention=replace(layer.attention, kv_dtype="bf16"))


def stock_config(model: Model, layers: tuple[Layer, ...]) -> Json | None:
    """`config.json` in the family's stock format; `None` where it cannot say what layers are."""
    return _uniform(model, layers)


def kv_scheme(layers: tuple[Layer, ...]) -> Json | None:
    """What a `quantization_config` says of a model all of whose layers cache K and V in FP8.

    The words are ModelOpt's. No weight is quantised, and every other way to say that makes vLLM
    drop the scales without a word. Layers in BF16 cannot be told apart, so there is none for them.
    """
    attentions = _attentions(layers)
    if not attentions or any(a.kv_dtype != "fp8_e4m3" for a in attentions):
        return None
    return {
        "quant_method": "modelopt",
        "quant_algo": "FP8",
        "ignore": ["*"],
        "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False},
    }


def measuring_config(model: Model) -> Json:
    """The parent in the format of children whose layers differ.

    `surgery_runtime.hf.build` makes from it the class that children are measured with.
    """
    return _heterogeneous(model, model.layers)


def rope(config: Mapping[str, object], family: str) -> Json:
    """`rope_parameters`, `rope_theta` and `rope_scaling` that all say the same."""
    child = family_named(family).child
    theta, scaling = child.theta, dict(child.scaling)
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
    if only_cache(config.get("quantization_config")):
        private |= {"quantization_config"}
    return {k: v for k, v in config.items() if not k.startswith("_") and k not in private}


def _base(model: Model) -> Json:
    return {**_public(model.config), **rope(model.config, model.family), "use_cache": True}


def _only(values: Sequence[int]) -> int | None:
    """The one value that all have, if they agree."""
    return values[0] if values and len(set(values)) == 1 else None


def _attentions(layers: tuple[Layer, ...]) -> list[Attention]:
    return [layer.attends for layer in layers if layer.attends is not None]


def _in_fp8(layers: tuple[Layer, ...]) -> bool:
    """Whether a layer caches K and V in FP8."""
    return any(a.kv_dtype != "bf16" for a in _attentions(layers))


def _windows(layers: tuple[Layer, ...]) -> list[int]:
    """The windows in use, layer by layer."""
    return [a.window for a in _attentions(layers) if a.window is not None]


def _layer_types(layers: tuple[Layer, ...]) -> list[str]:
    return [
        "full_attention"
        if layer.attends is None or layer.attends.window is None
        else "sliding_attention"
        for layer in layers
    ]


# ---- stock formats ---------------------------------------------------------------------------


def _uniform(model: Model, layers: tuple[Layer, ...]) -> Json | None:
    """The stock format with other sizes, if it can say what the layers are."""
    family = family_named(model.family)
    if any(b is None or isinstance(b, Linear) for n in layers for b in (n.attention, n.mlp)):
        return None
    if _in_fp8(layers):
        # Engines were not told: vLLM's gpt-oss would leave the scales out without a word.
        return None
    facts: dict[str, int] = {}
    for layer in layers:
        for name, value in layer_facts(family, layer).items():
            if facts.setdefault(name, value) != value:
                return None
    windows = _stock_windows(family, model, layers)
    if windows is None:
        return None
    stock: Json = {"model_type": family.name, "architectures": [family.child.stock]}
    config: Json = {**_base(model), **stock, **windows}
    for name, value in facts.items():
        _tell(config, family.facts[name], value)
    return config


def layer_facts(family: Family, layer: Layer) -> dict[str, int]:
    """What can differ between layers, under the names of the family's facts."""
    facts = {} if layer.attends is None else {"kv_heads": layer.attends.kv_heads}
    match layer.mlp:
        case None | Linear():
            return facts
        case Ffn(width=width) if family.mlp is Site.FFN:
            return facts | {"width": width}
        case Ffn(width=width) if family.dense is not None:
            return facts | {"dense_width": width}
        case Experts(count=count, active=active, width=width) if family.mlp is Site.EXPERTS:
            return facts | {"experts": count, "active": active, "width": width}
        case other:
            raise ValueError(f"layer {layer.index} of {family.name} is {other!r}")


def _tell(config: Json, fact: Fact, value: int) -> None:
    """Say a fact under its first key, and under all others that are there."""
    config |= {key: value for key in fact.keys if key == fact.keys[0] or key in config}


def _stock_windows(family: Family, model: Model, layers: tuple[Layer, ...]) -> Json | None:
    """What the stock format says of windows, where every engine reads it alike."""
    keys = family.windows
    if keys is None or keys.types is None:
        # One window for all layers, if any: only the parent's own config can have said it.
        said = geometry(family, _public(model.config)).layers
        alike = [a.window for a in _attentions(said)] == [a.window for a in _attentions(layers)]
        return {} if alike else None
    windows, types = _windows(layers), _layer_types(layers)
    even = ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(len(layers))]
    if types not in (even, _layer_types(model.layers)) or len(set(windows)) > 1:
        return None
    return {keys.types: types, **({keys.size: windows[0]} if windows else {})}


# ---- formats for layers that differ ----------------------------------------------------------


def _heterogeneous(model: Model, layers: tuple[Layer, ...]) -> Json:
    family = family_named(model.family)
    return _nemotron(model, layers) if family.child.nested else _flat(family, model, layers)


def _named(model_type: str, architecture: str) -> Json:
    auto_map = dict(CLASSES[model_type])
    return {"model_type": model_type, "architectures": [architecture], "auto_map": auto_map}


def _flat(family: Family, model: Model, layers: tuple[Layer, ...]) -> Json:
    """One dict of the family's keys per layer: key for key NVIDIA's for gpt-oss, experts, windows.

    A layer names its experts and its window, and what differs from the keys for all layers.
    """
    kind, windows = family.child.mixed, _windows(layers)
    config: Json = {
        **_base(model),
        **_named(kind, KINDS[kind].model.partition(".")[2]),
        "layer_types": _layer_types(layers),
    }
    counts = [layer.mlp.count for layer in layers if isinstance(layer.mlp, Experts)]
    if counts:
        _tell(config, family.facts["experts"], max(counts))
    if windows and family.windows is not None:
        config[family.windows.size] = min(windows)
    config["block_configs"] = [_flat_block(family, config, layer) for layer in layers]
    return config


def _flat_block(family: Family, config: Json, layer: Layer) -> Json:
    block: Json = {}
    for name, value in layer_facts(family, layer).items():
        keys = family.facts[name].keys
        common = next((config[key] for key in keys if config.get(key) is not None), None)
        if name == "experts" or value != common:
            block[keys[0]] = value
    if family.windows is not None:
        block[family.windows.size] = layer.attends.window if layer.attends else None
    if family.blocks is not None:
        if layer.attends is not None and layer.attends.sinks and family.blocks.sinks:
            block[family.blocks.sinks] = layer.attends.sinks
        gone = {family.blocks.no_attention: layer.attention, family.blocks.no_mlp: layer.mlp}
        block |= {key: True for key, part in gone.items() if part is None}
    return block


def _nemotron(model: Model, layers: tuple[Layer, ...]) -> Json:
    """`nemotron-nas`: nested blocks; global sizes are the largest, as fallbacks."""
    config = _base(model)
    windows = _windows(layers)
    widths = [layer.mlp.width for layer in layers if isinstance(layer.mlp, Ffn | Experts)]
    kv_heads = [a.kv_heads for a in _attentions(layers)]
    config |= _named("nemotron-nas", _deci_class(layers))
    config["num_key_value_heads"] = max(kv_heads, default=model.kv_heads)
    config["intermediate_size"] = max(widths, default=config.get("intermediate_size"))
    if windows:
        config["layer_types"] = _layer_types(layers)
    if _only(windows) is not None:
        config["sliding_window"] = windows[0]
    activation = config.get("hidden_act", "silu")
    config["block_configs"] = [_nemotron_block(model, layer, activation) for layer in layers]
    return config


def _deci_class(layers: tuple[Layer, ...]) -> str:
    """The architecture that an engine looks up: vLLM's DeciLM knows one window for all layers.

    It gives the largest to all of them without a word, forgets sink tokens, and fails on a first
    layer without attention, on linear blocks, and on scales that no `quantization_config` tells of.
    Such a child has a name of its own, which our plugin knows and others refuse.
    """
    plain = len(set(_windows(layers))) < 2 and layers[0].attention is not None
    plain = plain and not any(a.sinks for a in _attentions(layers))
    plain &= not any(isinstance(b, Linear) for n in layers for b in (n.attention, n.mlp))
    return "DeciLMForCausalLM" if plain and not _in_fp8(layers) else "DeciLMLayerwiseForCausalLM"


def _nemotron_block(model: Model, layer: Layer, activation: object) -> Json:
    attention = layer.attends
    mlp = layer.mlp if isinstance(layer.mlp, Ffn | Experts) else None
    ffn: Json = {"no_op": layer.mlp is None, "hidden_act": activation if mlp else None}
    ffn["intermediate_size"] = mlp.width if mlp else None
    if mlp is not None and (factor := ffn_mult(mlp.width, model.hidden)) is not None:
        ffn["ffn_mult"] = factor
    sinks: Json = {"sink_tokens": attention.sinks} if attention and attention.sinks else {}
    if isinstance(layer.mlp, Linear):
        ffn["replace_with_linear"] = True
    return {
        "attention": {
            "no_op": layer.attention is None,
            "n_heads_in_group": attention.heads // attention.kv_heads if attention else None,
            "window_length": attention.window if attention else None,
            "replace_with_linear": isinstance(layer.attention, Linear),
            "sparsify": None,
            **sinks,
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
