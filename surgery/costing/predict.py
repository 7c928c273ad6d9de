"""Times of a load from terms and factors: a step, a token, the first token, tokens per second.

In: blocks, the output head, a `Stage`, `Factors`. Out: `Times` in seconds with the terms that they
are made of. Time per token is that of a decoding step with what prompts of others add to it; a
request takes its first token and `decode - 1` more. The first token is that of a prompt which does
not wait: queues are not modelled, and where clients outnumber what fits, first tokens come later
than said here.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from surgery.costing import terms
from surgery.costing.factors import Factors
from surgery.costing.terms import Stage, Terms, Work


class Times(Struct, frozen=True):
    """Seconds of one load, and what they are made of (at the limits, before factors)."""

    per_token: Terms
    first: Terms
    tpot: float
    ttft: float
    stage: Stage

    @property
    def latency(self) -> float:
        """Seconds of a whole request."""
        return self.ttft + self.tpot * (self.stage.load.decode - 1)

    @property
    def throughput(self) -> float:
        """Tokens out per second of the whole machine."""
        load = self.stage.load
        return load.batch * load.decode / self.latency


def per_token(works: Iterable[Work], head: tuple[int, int], stage: Stage) -> Terms:
    """Terms of the mean step; `head` is the output head: parameters and bytes."""
    works = tuple(works)
    return terms.total(
        (
            terms.decode(works, stage),
            terms.mixed(works, stage),
            terms.head(*head, stage),
        )
    )


def first(works: Iterable[Work], head: tuple[int, int], stage: Stage) -> Terms:
    """Terms of a prompt that is read on its own, and of the step that gives its first token."""
    works = tuple(works)
    return terms.total(
        (
            terms.prefill(works, stage),
            terms.decode(works, stage),
            terms.head(*head, stage),
        )
    )


def times(works: Iterable[Work], head: tuple[int, int], stage: Stage, factors: Factors) -> Times:
    """What a load takes."""
    works = tuple(works)
    token, prompt = per_token(works, head, stage), first(works, head, stage)
    return Times(token, prompt, factors.seconds(token), factors.seconds(prompt), stage)
