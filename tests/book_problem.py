"""For the chapters that forge what no command line can provoke: a spec as the solver gets it.

In: the path of a spec in the folder at hand, and the damage of every edit, which is not measured.
Out: its `Problem`. A spec that does not get so far is a bug of the chapter.
"""

from __future__ import annotations

from pathlib import Path

from surgery.diagnostics import Sink
from surgery.grammar import parse
from surgery.ir import Measured
from surgery.passes import check, constrain, expand, resolve
from surgery.passes.constrain import Problem


def problem(path: str, damage: float = 0.0, error: float = 0.0) -> Problem:
    """The problem that the spec at `path` states, if every edit does this damage (in nats)."""
    sink = Sink()
    source = parse.read_source(path, sink)
    spec = check.run(parse.parse(source, sink), sink, {}) if source else None
    model = resolve.run(spec, sink, Path(".cache")) if spec else None
    space = expand.run(spec, model, sink) if spec and model else None
    if not spec or not space:
        raise ValueError([found.message for found in sink.found])
    scores = [score.name for score in spec.scores]
    by_address = {c.address: damage if c.changed else 0.0 for c in space.candidates}
    errors = {c.address: error if c.changed else 0.0 for c in space.candidates}
    measured = Measured(dict.fromkeys(scores, by_address), "", dict.fromkeys(scores, errors))
    stated = constrain.run(spec, space, measured, sink)
    if stated is None:
        raise ValueError([found.message for found in sink.found])
    return stated
