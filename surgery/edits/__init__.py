"""The kinds of surgery: when each is legal, what it makes of a block, which tensors it cuts.

In: parent blocks and tensors, alternatives of a `choose`. Out: refusals, child blocks and layers,
`ops.Output`s for one site or the whole child, and the hash that identifies an edited block. Child
tensors keep the parent's names. Not here: prices (`passes/cost.py`), which layers an alternative
applies to (`passes/expand.py`), rankings (`passes/rank.py`), any reading of weights.

To add an edit, write its record in one file of this folder and list it in `registry.EDITS`; the
order there is the order of candidates.
"""

from surgery.edits.child import (
    artefact,
    block_tensors,
    child_layers,
    child_outputs,
    cut,
    outputs,
    ranked,
    unranked,
)
from surgery.edits.edit import Edit, Refusal
from surgery.edits.registry import (
    EDITS,
    argument,
    find,
    keep_text,
    known,
    refuse,
    selects,
    spelled,
    unlisted,
)

__all__ = [
    "EDITS",
    "Edit",
    "Refusal",
    "argument",
    "artefact",
    "block_tensors",
    "child_layers",
    "child_outputs",
    "cut",
    "find",
    "keep_text",
    "known",
    "outputs",
    "ranked",
    "refuse",
    "selects",
    "spelled",
    "unlisted",
    "unranked",
]
