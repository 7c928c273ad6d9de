"""Which files a checkpoint of each model type carries, so that Transformers loads it.

In: a model type. Out: names of files in `hf/`, of which a checkpoint holds frozen copies. Standard
library only: who writes a checkpoint needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

FILES: Mapping[str, tuple[str, ...]] = {
    "gpt_oss_puzzle": (
        "configuration_gpt_oss_puzzle.py",
        "layerwise.py",
        "modeling_gpt_oss_puzzle.py",
    ),
    "nemotron-nas": ("configuration_decilm.py", "layerwise.py", "modeling_decilm.py"),
}
"""Model types that stock Transformers does not know."""
