"""What exactly was timed: the library keys of seconds, and the blocks that they are about.

In: a parent, a machine, a scenario, blocks. Out: JSON keys of all that decides how long a block
takes: the kind of machine and how many cores or GPUs, the version of PyTorch, the parent (whose
router decides which experts are hit), the text that prompts are of, lengths, batch, the block. The
names of scenarios and machines are left out. Needs no torch. Not here: timing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from msgspec import Struct
from msgspec.structs import asdict, replace

from surgery.ir import Attention, Block, Machine, Model, Scenario, Spec
from surgery.library import Json, Library
from surgery.scoring import data
from surgery.scoring.blind import scores_used

ENGINE = "torch"
"""The engine that this package times."""

TIMING = 1
"""Version of the way times are taken; raised whenever that changes."""

FIXED, REFERENCE, WHOLE = "fixed", "reference", "whole"
"""What is timed beside blocks: all outside of layers; the parent's step, which is the unit of
everything else; held-out children, which say how far sums are off."""


class Seconds(Struct, frozen=True):
    """A time and the relative error that 9 in 10 such medians stay below."""

    seconds: float
    spread: float


class Place(Struct, frozen=True):
    """Where and under which load: what all keys of one scenario share."""

    root: Mapping[str, Json]

    def key(self, phase: str, what: Block | str) -> dict[str, Json]:
        """The key of a block, or of `FIXED`, `REFERENCE` or `WHOLE`."""
        return {
            **self.root,
            "phase": phase,
            "block": what if isinstance(what, str) else shape(what),
        }

    def get(self, library: Library, phase: str, what: Block | str) -> Seconds | None:
        """What the library knows."""
        found = library.get(self.key(phase, what))
        if not isinstance(found, Mapping):
            return None
        seconds, spread = found.get("seconds"), found.get("spread")
        if isinstance(seconds, int | float) and isinstance(spread, int | float):
            return Seconds(float(seconds), float(spread))
        return None

    def put(self, library: Library, phase: str, what: Block | str, found: Seconds) -> None:
        """Keep a time. Raises `Stop` (E0806)."""
        value = {name: float(f"{number:.6g}") for name, number in asdict(found).items()}
        library.put(self.key(phase, what), value)


def shape(block: Block) -> Json:
    """A block as JSON; what does not matter to the time is left out."""
    fields: dict[str, Json] = dict(asdict(same(block)))
    return {"kind": type(block).__name__.lower(), **fields}


def same(block: Block) -> Block:
    """The block that takes as long: PyTorch keeps keys and values as they are, FP8 or not."""
    return replace(block, kv_dtype="bf16") if isinstance(block, Attention) else block


def installed() -> str | None:
    """The version of PyTorch here."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def steady(scenario: Scenario) -> bool:
    """Whether all requests of a scenario, a child's too, are as long, and its batch is a number.

    A time at mean lengths is not the mean over lengths.
    """
    return scenario.batch is not None and scenario.trace is None and scenario.verbosity == 1


def place(spec: Spec, model: Model, machine: Machine, scenario: Scenario) -> Place | None:
    """The place of a steady scenario; `None` where nothing can have been timed.

    Raises `Stop` for text that cannot be read.
    """
    if scenario.engine != ENGINE or not steady(scenario) or not model.digest:
        return None
    version = installed()
    if version is None:
        return None
    return Place(
        {
            "kind": "time",
            "version": TIMING,
            "machine": machine.device,
            "count": machine.gpus,
            "torch": version,
            "parent": model.digest,
            "text": text_of(spec, model),
            "prefill": scenario.prefill,
            "decode": scenario.decode,
            "batch": scenario.batch,
        }
    )


def text_of(spec: Spec, model: Model) -> str:
    """SHA-256 of the text that prompts are of; "" for prompts of random tokens."""
    dataset = dataset_of(spec, model)
    return data.read_text(dataset, spec.folder).digest if dataset else ""


def dataset_of(spec: Spec, model: Model) -> data.Dataset | None:
    """The dataset that prompts are of: the first that a score uses."""
    used = {score.dataset for score in scores_used(spec)} if model.files else set[str]()
    return next((each for each in spec.datasets if each.name in used), None)
