"""Plan + checkpoint -> the plan that the checkpoint seems to be made by.

In: a plan, the directory of a checkpoint (or of a whole output, with `checkpoint/` in it). Out: a
plan whose decisions are what the config and the headers of the checkpoint say, in the words of the
given plan: a decision that is in effect stays as it is, and what is there instead is spelt as
plans spell it. Raises `Stop` (E0001, E0004, E0411, E0401). Reads no weights and no parent: `noop`,
windows, counts and widths are seen, which slices were kept is not (`passes/verify.py` proves that).
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from surgery import edits, inspection
from surgery.ir import Attention, Block, Decision, Layer, Plan
from surgery.lockfile import SITES
from surgery.passes.verify import read_decision

_INSIDE = "checkpoint"


def run(plan: Plan, directory: Path, cache: Path) -> Plan:
    """What the checkpoint is. Layers that it lacks are left out, others of it are added."""
    inside = directory / _INSIDE
    model = inspection.read(inside if inside.is_dir() else directory, cache)
    decided = {(d.layer, d.site): d for d in plan.decisions}
    found: list[Decision] = []
    for layer in model.layers:
        planned = (site for index, site in decided if index == layer.index)
        for site in sorted({*layer.sites, *planned}, key=SITES.index):
            told = decided.get((layer.index, site)) or Decision(layer.index, site, "")
            found.append(_found(told, layer))
    return replace(plan, decisions=tuple(found), stated=None)


def _found(told: Decision, layer: Layer) -> Decision:
    block = layer.block(told.site)
    if _in_effect(told, block):
        return told
    text = edits.keep_text(told.site, block)
    if isinstance(block, Attention) and block.kv_dtype != "bf16":
        text += "+fp8"
    return Decision(told.layer, told.site, text)


def _in_effect(told: Decision, block: Block | None) -> bool:
    """Whether doing once more what was decided would change nothing."""
    base = edits.base_text(told.text)
    if block is None or base == "noop":
        return block is None and base == "noop"
    if isinstance(block, Attention) and (block.kv_dtype != "bf16") is not ("+fp8" in told.text):
        return False
    try:
        _, _, child = read_decision(told, block, "")
    except ValueError:
        return False
    return child == block
