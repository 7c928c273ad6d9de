"""What a facet can become: the record that `kv_cache.py` and `router.py` fill in.

In: a block, the argument, the parent's tensors of the site. Out: the block with it, what it adds to
the plan text and to the tensors. A facet goes with any edit of its site and is made first, so that
the edit is judged on a block that has it. Refuses nothing by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from surgery.edits.edit import Refusal
from surgery.ir import Block, FacetKind, Scales, TensorSpec
from surgery.ops import Output


class FacetEdit(Struct, frozen=True):
    """One thing that a facet can become.

    `valued` ones take one whole number (0 otherwise), `scaled` ones need scales. `become` gives
    the block; `shows` says whether a block has become it: what an edit removes has no facets.
    `suffix` is added to the plan text. `adds` gives further tensors, with `how` the scales were
    found; without scales they have their sizes and no values.
    """

    name: str
    kind: FacetKind
    valued: bool
    scaled: bool
    refuse: Callable[[Block, int], Refusal | None]
    become: Callable[[Block, int], Block]
    shows: Callable[[Block | None, int], bool]
    suffix: Callable[[int], str]
    adds: Callable[[Sequence[TensorSpec], Scales | None, str], tuple[Output, ...]]
