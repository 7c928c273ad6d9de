"""What is being written: a child with everything that its files are made of.

In: the parent, the plan and its chosen candidates. Out: `Child`. Refuses nothing. Not here: the
files (`emit_files.py`, `model_card.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from surgery import ir
from surgery.arch.configs import child_config
from surgery.arch.rope import stretched
from surgery.edits import child_layers, child_outputs
from surgery.ops import Output
from surgery.untrusted import as_list

if TYPE_CHECKING:
    from surgery.passes.judge import Judgement


class Child(Struct, frozen=True):
    """What is being written: its name, what it comes from, and what was decided.

    `outputs` are its tensors in the parent's order, `layers` what its layers are, `config` the
    content of its `config.json`. `about` is what the spec says of itself, `judgement` what the
    child has lost, if that was measured.
    """

    name: str
    model: ir.Model
    plan: ir.Plan
    chosen: tuple[ir.Candidate, ...]
    outputs: tuple[Output, ...]
    layers: tuple[ir.Layer, ...]
    config: Mapping[str, object]
    about: str = ""
    judgement: Judgement | None = None

    @property
    def model_type(self) -> str:
        """The `model_type` of its config."""
        return str(self.config["model_type"])

    @property
    def architecture(self) -> str:
        """The class that loads it."""
        named = as_list(self.config.get("architectures"))
        return str(named[0]) if named else ""

    @property
    def params(self) -> int:
        """Parameters, tied ones counted once."""
        return sum(output.numel for output in self.outputs)


def child_of(
    name: str,
    model: ir.Model,
    plan: ir.Plan,
    chosen: tuple[ir.Candidate, ...],
    about: str = "",
    judgement: Judgement | None = None,
) -> Child:
    """The child that `chosen` makes of `model`."""
    layers = child_layers(model, chosen)
    told = stretched(model, float(plan.rope)) if plan.rope else model
    outputs, config = child_outputs(model, chosen), child_config(told, layers)
    return Child(name, model, plan, chosen, outputs, layers, config, about, judgement)
