"""How a machine shares a model among its GPUs: tensor, pipeline, data and expert parallelism.

In: a declared `ir.Machine`. Out: `Parallel`, or the `Fault` that makes its fields contradict each
other. What is not said follows: GPUs that nothing else takes share every layer, unless
`tensor_parallel` says how many do; then the rest are copies of the model (data parallelism).
Whether a model can be shared so is `passes/sharding.py`.
"""

from __future__ import annotations

from msgspec import Struct

from surgery.ir import Machine

FIELDS = ("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel")


class Parallel(Struct, frozen=True):
    """Numbers of GPUs: `tensor * pipeline * data` of them in all.

    `tensor` GPUs share every layer, `pipeline` groups of them have some of the layers each, `data`
    copies of that have requests of their own. The experts of a layer are dealt out whole to
    `expert` of the `tensor * data` GPUs that hold it; each expert is shared by the remaining
    `tensor * data / expert`.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.tensor * self.pipeline * self.data

    @property
    def sharing_expert(self) -> int:
        """GPUs that share one expert: without expert parallelism those that share a layer."""
        # Copies of a model deal out experts among each other only where experts are dealt out.
        pool = self.tensor * self.data if self.expert > 1 else self.tensor
        return max(1, pool // self.expert)


class Fault(Struct, frozen=True):
    """Which field of a machine contradicts the others, and how."""

    field: str
    message: str
    label: str


def said(machine: Machine) -> dict[str, int]:
    """The numbers that a machine declares, by field."""
    return {name: int(value) for name, value in machine.fields if name in FIELDS}


def of(machine: Machine) -> Parallel:
    """How a machine whose fields are sound shares its GPUs."""
    numbers = said(machine)
    pipeline, expert = numbers.get("pipeline_parallel", 1), numbers.get("expert_parallel", 1)
    if "tensor_parallel" in numbers:
        tensor = numbers["tensor_parallel"]
        data = numbers.get("data_parallel", machine.gpus // (tensor * pipeline))
    else:
        data = numbers.get("data_parallel", 1)
        tensor = machine.gpus // (data * pipeline)
    return Parallel(tensor, pipeline, data, expert)


def fault(machine: Machine) -> Fault | None:
    """What is wrong with the fields of a machine taken together."""
    numbers = said(machine)
    gpus, product = machine.gpus, 1
    for name in FIELDS[:3]:
        number = numbers.get(name)
        if number is None:
            continue
        product *= number
        if gpus % product:
            if product == numbers.get("tensor_parallel"):
                message = f"{product} GPUs cannot share a layer evenly on a machine that has {gpus}"
            else:
                message = f"groups of {product} GPUs cannot share a machine that has {gpus} evenly"
            return Fault(name, message, f"{gpus} is no multiple of {product}")
    if {"tensor_parallel", "data_parallel"} <= numbers.keys() and product != gpus:
        message = f"the parallelism of a machine takes {product} of its {gpus} GPUs"
        return Fault("data_parallel", message, f"leaves {gpus - product} without work")
    shared = of(machine)
    pool = shared.tensor * shared.data
    if pool % shared.expert:
        whose = f"a machine that has {pool}" if pool == gpus else f"the {pool} that hold a layer"
        message = f"{shared.expert} GPUs cannot share experts evenly on {whose}"
        return Fault("expert_parallel", message, f"{pool} is no multiple of {shared.expert}")
    return None
