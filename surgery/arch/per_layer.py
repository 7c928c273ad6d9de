"""Model + child layers -> `per_layer_config.json`: what every layer is, in one place.

In: the parent and what its layers become. Out: the JSON of a file that lies beside `config.json`,
one entry per layer under its number, filled up with zeros so that numbers sort. Refuses nothing.

The schema is that of `per_layer_config` in Transformers 5.14 and later, which vLLM's AnyModel reads
as well: the config keys of the family, and `skip` for blocks that are not there; of ours alone
`linear` for those that are one linear layer. Every entry is
whole where those schemas would let a layer inherit, and says three things that not all families
have a key for: `layer_type`, `sliding_window` and `kv_cache_dtype`.

It is a file of its own because in `config.json`, next to `block_configs`, it would turn the config
of Transformers into one whose `sliding_window` and sizes cannot be read, and engines read them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from surgery.arch.configs import Json, layer_facts
from surgery.arch.family import Family, family_named
from surgery.ir import Attention, Layer, Linear

FILE = "per_layer_config.json"
_CACHES = {"bf16": "auto", "fp8_e4m3": "fp8_e4m3"}
"""How engines call a cache: as precise as the model, or of one kind."""


def per_layer_config(family: str, layers: Sequence[Layer]) -> bytes:
    """The file's content, the same for the same layers."""
    digits, kind = len(str(len(layers) - 1)), family_named(family)
    entries = {str(layer.index).zfill(digits): _entry(kind, layer) for layer in layers}
    if any(layer.attends is not None and layer.attends.sinks for layer in layers):
        for layer in layers:
            sinks = layer.attends.sinks if layer.attends else None
            entries[str(layer.index).zfill(digits)]["sink_tokens"] = sinks
    return (json.dumps(entries, indent=2, sort_keys=True) + "\n").encode()


def _entry(family: Family, layer: Layer) -> Json:
    attention = layer.attends
    entry: Json = {
        "layer_type": None if attention is None else _type(attention),
        "sliding_window": attention.window if attention else None,
        "kv_cache_dtype": _CACHES[attention.kv_dtype] if attention else None,
    }
    for name, value in layer_facts(family, layer).items():
        entry[family.facts[name].keys[0]] = value
    blocks = (("attention", layer.attention), ("mlp", layer.mlp))
    entry["skip"] = [name for name, block in blocks if block is None]
    if linear := [name for name, block in blocks if isinstance(block, Linear)]:
        entry["linear"] = linear
    return entry


def _type(attention: Attention) -> str:
    return "full_attention" if attention.window is None else "sliding_attention"
