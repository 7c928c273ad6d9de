"""The kinds of surgery: when each is legal, what it makes of a block, which tensors it cuts.

In: parent blocks and tensors, alternatives of a `choose`. Out: refusals, child blocks and layers,
`ops.Output`s for one site or the whole child, and the hash that identifies an edited block. Child
tensors keep the parent's names, save that experts are numbered anew. Not here: prices
(`passes/cost.py`), which layers an alternative applies to (`passes/expand.py`), rankings
(`passes/rank.py`), any reading of weights.

To add an edit, write its record in one file of this folder and list it in `registry.EDITS`; the
order there is the order of candidates.
"""

from surgery.edits.child import (
    artefact,
    block_tensors,
    calibrated,
    child_layers,
    child_outputs,
    cut,
    grain,
    merged,
    outputs,
    ranked,
    unranked,
)
from surgery.edits.edit import Edit, Refusal, Selection
from surgery.edits.facet import FacetEdit
from surgery.edits.facets import (
    FACETS,
    added,
    base_text,
    facet,
    facet_of,
    missing,
    scaled,
    shown,
    suffix,
    unlisted,
    with_facet,
    written_facet,
)
from surgery.edits.registry import (
    EDITS,
    argument,
    find,
    keep_text,
    known,
    refuse,
    selects,
    spelled,
)

__all__ = [
    "EDITS",
    "FACETS",
    "Edit",
    "FacetEdit",
    "Refusal",
    "Selection",
    "added",
    "argument",
    "artefact",
    "base_text",
    "block_tensors",
    "calibrated",
    "child_layers",
    "child_outputs",
    "cut",
    "facet",
    "facet_of",
    "find",
    "grain",
    "keep_text",
    "known",
    "merged",
    "missing",
    "outputs",
    "ranked",
    "refuse",
    "scaled",
    "selects",
    "shown",
    "spelled",
    "suffix",
    "unlisted",
    "unranked",
    "with_facet",
    "written_facet",
]
