"""A spec -> how long its blocks take on this machine: the passes up to its space, then `bench`.

In: a path, `Options`. Out: what `passes/bench.py` makes, or `None` when a pass reported an error to
the sink. Not here: timing.
"""

from __future__ import annotations

from collections.abc import Sequence

from surgery import pipeline
from surgery.diagnostics import Sink
from surgery.passes import bench
from surgery.passes.bench import Bench
from surgery.pipeline import Halt, Options, Run


def run(
    path: str, sink: Sink, options: Options, rounds: int, machines: Sequence[str]
) -> Bench | None:
    """Time what the library lacks; `machines` are those of the spec that this one is said to be."""
    trip = Run(sink, options)
    try:
        spec, space = pipeline.expanded(path, trip, None)
        known = (trip.library, options.progress, rounds, machines)
        return trip.step("bench", lambda: bench.run(spec, space, *known))
    except Halt:
        return None
