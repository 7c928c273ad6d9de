"""What is known about model families, as data: one TOML file for each.

In: a parsed `config.json`. Out: its `Family`, its `Geometry`, its layers, how it routes, and the
tensors it must have. Refuses unknown families (E0401) and configs that contradict themselves
(E0411).
"""

from surgery.arch.expected import expected_tensors, is_ignored, tensors_of
from surgery.arch.family import Family, families, family_named
from surgery.arch.geometry import Config, Geometry, family_of, geometry, layers, renormalised

__all__ = [
    "Config",
    "Family",
    "Geometry",
    "expected_tensors",
    "families",
    "family_named",
    "family_of",
    "geometry",
    "is_ignored",
    "layers",
    "renormalised",
    "tensors_of",
]
