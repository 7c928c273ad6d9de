"""Judge a whole child before it is written: measured KL, and perplexity of both.

In: a space, one candidate per site, text. Out: `Assembled`. The sum of replace-one-block damages
is only an estimate of what all edits do together (paper B assumes that they add up): this is the
measurement to put beside it. Runs from the exact bits that will be emitted. Not here: choosing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Stop
from surgery.ir import Candidate, Dataset, Model, Space, Spec
from surgery.library import Library
from surgery.progress import Progress, silent
from surgery.scoring import data, identity
from surgery.scoring.data import Samples
from surgery.units import significant

if TYPE_CHECKING:
    from surgery.scoring.swap import Judged


class Assembled(Struct, frozen=True):
    """What a child measures on a dataset.

    `kl` is the mean KL(parent || child) per token in nats, `kl_error` its standard error over
    samples (0 for one sample). A perplexity is exp of the mean negative log-likelihood of every
    token but the first of each sample.
    """

    kl: float
    kl_error: float
    parent_perplexity: float
    child_perplexity: float
    samples: int
    length: int

    @property
    def kl_text(self) -> str:
        """The mean, with its standard error where there are several samples."""
        if self.samples == 1:
            return significant(self.kl)
        return f"{significant(self.kl)} +- {significant(self.kl_error, 2)}"


def assembled(
    spec: Spec,
    space: Space,
    chosen: tuple[Candidate, ...],
    dataset: Dataset,
    library: Library | None = None,
    progress: Progress = silent,
    tail: int | None = None,
) -> Assembled:
    """Measure the child made of `chosen` (one candidate per site, ranked) against the parent.

    A rotary embedding that the spec applies is the child's. `tail` counts only the last so many
    tokens of each sample in the KL, as a score with a tail does; perplexities are about all tokens.
    With a library, a child that was judged before on the same text is not measured again. Raises
    `Stop` for unreadable text (E0001, E0706), missing weights (E0701) or a result that is not
    finite (E0702), which no library keeps.
    """
    model = space.model
    text = data.read_text(dataset, spec.folder)
    last = min(tail or dataset.length, dataset.length)
    drawn = identity.data_key(dataset, text, model)
    rope = spec.rope.text if spec.rope else ""
    key = identity.assembled_key(model, drawn, chosen, last, rope)
    known = _recall(library.get(key)) if library is not None else None
    if known is not None:
        return known
    identity.require_weights(model, 1, "judgement of a child")
    samples = data.draw(dataset, text, data.load_tokenizer(model), data.end_of_text(model))
    result = _measure(model, samples, chosen, last, progress, rope)
    if library is not None:
        library.put(key, {name: getattr(result, name) for name in _FIELDS})
    return result


def divergences(
    spec: Spec, space: Space, chosen: tuple[Candidate, ...], dataset: Dataset
) -> tuple[float, ...]:
    """The same KL for each sample, in nats per token: children are compared sample by sample.

    Raises `Stop` as `assembled` does; keeps nothing.
    """
    model = space.model
    text = data.read_text(dataset, spec.folder)
    identity.require_weights(model, 1, "judgement of a child")
    samples = data.draw(dataset, text, data.load_tokenizer(model), data.end_of_text(model))
    rope = spec.rope.text if spec.rope else ""
    judged = _judged(model, samples, chosen, dataset.length, silent, rope)
    return tuple(float(kl) for part in judged for kl in part.kl)


_FIELDS = ("kl", "kl_error", "parent_perplexity", "child_perplexity", "samples", "length")


def _recall(value: object) -> Assembled | None:
    if not isinstance(value, dict):
        return None
    found = cast("dict[str, object]", value)
    numbers = [found.get(name) for name in _FIELDS]
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    kl, error, parent, child, samples, length = (cast("float", n) for n in numbers)
    return Assembled(kl, error, parent, child, int(samples), int(length))


def _measure(
    model: Model,
    samples: Samples,
    chosen: tuple[Candidate, ...],
    tail: int,
    progress: Progress,
    rope: str,
) -> Assembled:
    import torch

    judged = _judged(model, samples, chosen, tail, progress, rope)
    kl = torch.cat([part.kl for part in judged])
    losses = [torch.cat([getattr(part, name) for part in judged]) for name in ("parent", "child")]
    count = len(kl)
    error = float(kl.std()) / math.sqrt(count) if count > 1 else 0.0
    parent_loss, child_loss = (float(loss.mean()) for loss in losses)
    return _summary(model, (float(kl.mean()), error, parent_loss, child_loss), samples)


def _judged(
    model: Model,
    samples: Samples,
    chosen: tuple[Candidate, ...],
    tail: int,
    progress: Progress,
    rope: str,
) -> list[Judged]:
    import torch

    from surgery.scoring import swap
    from surgery.scoring.arrays import from_numpy
    from surgery.scoring.model import load_parent, make_layer, make_rotary

    parent = load_parent(model)
    rotary = make_rotary(parent, float(rope)) if rope else None
    layers = dict(make_layer(parent, changed) for changed in _by_layer(chosen))
    starts = range(0, len(samples.tokens), swap.batch_size(samples.length))
    judged: list[Judged] = []
    with torch.inference_mode():
        for done, start in enumerate(starts):
            progress("judge", done, len(starts), "the assembled child")
            rows = samples.tokens[start : start + swap.batch_size(samples.length)]
            judged.append(swap.judge(parent, from_numpy(rows), layers, tail, rotary))
    progress("judge", len(starts), len(starts), "the assembled child")
    return judged


def _summary(model: Model, means: tuple[float, float, float, float], samples: Samples) -> Assembled:
    """`means` are the KL, its standard error, and the parent's and the child's loss, in nats.

    Raises `Stop` (E0702) unless all of them, and both perplexities, are finite.
    """
    kl, error, parent, child = means
    if not math.isfinite(_perplexity(parent)):
        raise _not_finite(f"`{model.name}` itself", model)
    if not all(map(math.isfinite, (kl, error, _perplexity(child)))):
        raise _not_finite("the assembled child", model)
    return Assembled(
        # KL is never negative; what rounding leaves below 0 is 0.
        identity.rounded(max(0.0, kl)),
        identity.rounded(error),
        identity.rounded(_perplexity(parent)),
        identity.rounded(_perplexity(child)),
        *samples.tokens.shape,
    )


def _perplexity(loss: float) -> float:
    """exp(loss in nats); infinite where that is more than a float can say (above 709)."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _not_finite(who: str, model: Model) -> Stop:
    message = f"{who} predicts values that are not finite"
    return Stop(Diagnostic(catalog.E0702, message, subject=str(model.directory)))


def _by_layer(chosen: tuple[Candidate, ...]) -> Iterator[tuple[Candidate, ...]]:
    for layer in sorted({c.layer for c in chosen if c.changed}):
        yield tuple(c for c in chosen if c.layer == layer and c.changed)
