"""What shall be: `Plan`, one decision per site with the evidence for it."""

from __future__ import annotations

from msgspec import Struct

from surgery.ir.merging import Merging
from surgery.ir.model import Scales
from surgery.ir.site import Site


class Decision(Struct, frozen=True):
    """One site of the plan: its text, the artefact hash ("" when unchanged), what is kept.

    `scales` are those of an FP8 KV cache, `merged` what became of experts that were merged.
    """

    layer: int
    site: Site
    text: str
    artefact: str = ""
    kept: tuple[int, ...] | None = None
    scales: Scales | None = None
    merged: Merging | None = None


class Evidence(Struct, frozen=True):
    """A checked requirement: `@label value op limit`, all as printed."""

    label: str
    value: str
    op: str
    limit: str


class Plan(Struct, frozen=True):
    """A lock file for an architecture; `surgery.lockfile` writes and reads its text.

    Three parts by volatility: provenance (name, hash pairs), decisions, evidence. `stated` is the
    decision hash that a file claims where that is not the hash of its decisions: it was edited.
    """

    spec: tuple[str, str]
    parent: tuple[str, str]
    library: str
    toolchain: str
    decisions: tuple[Decision, ...]
    solver: tuple[tuple[str, str], ...]
    objective: tuple[str, str]
    requirements: tuple[Evidence, ...]
    metrics: tuple[tuple[str, str], ...]
    stated: str | None = None
    tables: tuple[tuple[str, str], ...] = ()
    """Scores and costs that were not measured here: (name, hash) of every table."""
    plans: tuple[tuple[str, str], ...] = ()
    """Plans that the spec measures distances from: (file, hash of its decisions)."""
    rope: str = ""
    """The YaRN factor of all layers, "" where it is the parent's: decided as sites are."""
