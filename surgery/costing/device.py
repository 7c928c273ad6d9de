"""One GPU as a roofline sees it: bytes per second of memory and links, operations per second.

In: a declared `ir.Machine`. Out: `Device`, with floats in base units. Refuses nothing: what a
machine does not declare counts as what it has next (FP4 weights on tensor cores without FP4 are
computed in BF16).
"""

from __future__ import annotations

from msgspec import Struct

from surgery.ir import Machine


class Device(Struct, frozen=True):
    """One GPU: bytes, bytes per second, dense operations per second by the bits of a factor.

    `link` is bytes per second in one direction to all other GPUs together; 0 where it has none.
    """

    memory: float
    bandwidth: float
    bf16: float
    fp8: float | None = None
    fp4: float | None = None
    link: float = 0.0

    def rate(self, bits: float) -> float:
        """Operations per second on weights of so many bits."""
        if bits <= _FP4:
            return self.fp4 or self.bf16
        return (self.fp8 or self.bf16) if bits <= _FP8 else self.bf16


_FP4, _FP8 = 6.0, 12.0
"""Most bits per weight, scales included, of what counts as four and as eight bits."""


def format_of(bits: float, device: Device) -> str:
    """What a kernel class calls such weights: `w4` are four bits that are widened in software."""
    if bits <= _FP4:
        return "fp4" if device.fp4 else "w4"
    if bits <= _FP8:
        return "fp8" if device.fp8 else "w8"
    return "bf16"


def of(machine: Machine) -> Device:
    """The device of a machine that declares memory, bandwidth and compute."""
    fields = {name: float(value) for name, value in machine.fields}
    return Device(
        fields["memory"],
        fields["bandwidth"],
        fields["compute"],
        fields.get("compute_fp8"),
        fields.get("compute_fp4"),
        fields.get("interconnect", 0.0) / 2,
    )
