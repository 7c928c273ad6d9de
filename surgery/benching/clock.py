"""The device at hand and how to tell time on it: a CPU's counter, or events of a CUDA stream.

In: nothing. Out: a `Clock`. Every other file of this folder works on either. GPU kernels run after
the call that asks for them has returned, so a GPU's moments are events in its stream, which are
read when all work is done. Refuses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from msgspec import Struct


class Clock(Struct, frozen=True):
    """A device: its name, what blocks run in there, and moments of it.

    `stamp` marks a moment, `seconds` tells the time between two of them once `settle` has waited
    for the device. `free` is how many bytes may be taken.
    """

    device: torch.device
    name: str
    dtype: torch.dtype
    stamp: Callable[[], object]
    seconds: Callable[[object, object], float]
    settle: Callable[[], None]
    free: Callable[[], int]

    def is_a(self, device: str) -> bool:
        """Whether a machine of a spec that declares `device` is of the kind at hand."""
        if self.device.type == "cpu":
            return device in self.name.split()
        words, has = device.lower().split("_"), self.name.lower()
        # Data sheets tell SXM from PCIe; of the two, drivers name only PCIe.
        return all(word in has for word in words if word != "sxm") and (
            "sxm" not in words or "pcie" not in has
        )


@contextmanager
def cores(clock: Clock, count: int) -> Generator[None]:
    """Run on so many cores of a processor; what comes after sums in the order that it did before.

    Nothing changes on a GPU.
    """
    before = torch.get_num_threads()
    try:
        if clock.device.type == "cpu":
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def here() -> Clock:
    """A GPU where there is one, else the processor."""
    return cuda() if torch.cuda.is_available() else cpu()


def cpu() -> Clock:
    """The processor: float32, because few processors multiply anything shorter."""
    return Clock(
        torch.device("cpu"),
        _processor(),
        torch.float32,
        time.perf_counter,
        lambda start, stop: cast("float", stop) - cast("float", start),
        lambda: None,
        _available,
    )


def cuda() -> Clock:
    """The current GPU: bfloat16, as checkpoints are stored."""

    def stamp() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(start: object, stop: object) -> float:
        begun, done = cast("torch.cuda.Event", start), cast("torch.cuda.Event", stop)
        return begun.elapsed_time(done) / 1000

    return Clock(
        torch.device("cuda", torch.cuda.current_device()),
        torch.cuda.get_device_name(),
        torch.bfloat16,
        stamp,
        seconds,
        torch.cuda.synchronize,
        lambda: torch.cuda.mem_get_info()[0],
    )


def _processor() -> str:
    """What Linux says of the first processor, and the architecture where that tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "cpu"
    pairs = (line.partition(":") for line in text.split("\n\n")[0].split("\n"))
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    # Family 19h is Zen 3 and Zen 4, of which the latter has AVX-512.
    third = fields.get("cpu family") == "25" and "avx512f" not in fields.get("flags", "").split()
    return fields.get("model name", "cpu") + (" zen3" if third else "")


def _available() -> int:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return 2**32
    found = next((line for line in text.split("\n") if line.startswith("MemAvailable:")), "")
    return 1024 * int(found.split()[1]) if found else 2**32
