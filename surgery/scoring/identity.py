"""What exactly was measured: the keys of the library.

In: a model, a dataset, a candidate, how it is measured. Out: JSON keys of everything that decides
what the number is. Names of scores, datasets and files are left out, so renaming them invalidates
nothing; so are machines, thread counts and versions of libraries, which may change its last
digits. The parent is its digest, which covers every byte of its weights. Needs no torch. Not here:
storing (`library.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import Candidate, Dataset, Model
from surgery.library import Json
from surgery.scoring.data import SAMPLING, Text, tokenizer_digest

MEASURING = 1
"""Version of the measurement itself; raised whenever a formula or its precision changes."""


def rounded(value: float) -> float:
    """Nine significant digits: they tell any two float32 apart and keep files short.

    The last ones may differ between machines or numbers of threads, which sum in another order.
    """
    return float(f"{value:.9g}")


def require_weights(model: Model, missing: int, what: str) -> None:
    """Raise `Stop` (E0701) when there is something to measure and nothing to measure it with.

    A library filled elsewhere does not help: a config alone has another digest than the same
    model with its weights, because nothing says which weights would belong to it.
    """
    if missing and not model.files:
        raise Stop(
            Diagnostic(
                catalog.E0701,
                f"{missing} {what} are missing from the library, and there are no weights for them",
                subject=str(model.directory),
                helps=(Help("fetch the checkpoint's safetensors files as well"),),
            )
        )


def data_key(dataset: Dataset, text: Text, model: Model) -> dict[str, Json]:
    """The samples: the text's bytes, how they are drawn, and the tokenizer that cuts them."""
    return {
        "text": text.digest,
        "tokenizer": tokenizer_digest(model),
        "take": dataset.take,
        "length": dataset.length,
        "seed": dataset.seed,
        "sampling": SAMPLING,
    }


def ranking_key(
    model: Model, data: Mapping[str, Json], layer: int, site: str, criterion: str
) -> dict[str, Json]:
    """The scores of all experts or channels of one parent block under one criterion."""
    return {
        "kind": "ranking",
        "version": MEASURING,
        "parent": model.digest,
        "data": data,
        "layer": layer,
        "site": site,
        "criterion": criterion,
    }


def calibration_key(
    model: Model, data: Mapping[str, Json], layer: int, kv_heads: int, method: str
) -> dict[str, Json]:
    """How far K and V of one parent layer reach, pooled into `kv_heads` heads."""
    return {
        "kind": "calibration",
        "version": MEASURING,
        "parent": model.digest,
        "data": data,
        "layer": layer,
        "kv_heads": kv_heads,
        "method": method,
    }


def swap_key(
    model: Model,
    data: Mapping[str, Json],
    candidate: Candidate,
    metric: str,
    tail: int | None,
) -> dict[str, Json]:
    """The damage of one candidate: the edited block (its artefact hash), the metric, the text."""
    return {
        "kind": "swap",
        "version": MEASURING,
        "parent": model.digest,
        "data": data,
        "block": candidate.artefact,
        "metric": metric,
        "tail": tail,
    }


def child_key(
    model: Model, data: Mapping[str, Json], chosen: tuple[Candidate, ...], tail: int
) -> dict[str, Json]:
    """The damage alone of a whole child, measured from the block on that is replaced last."""
    return assembled_key(model, data, chosen, tail) | {"kind": "child"}


def assembled_key(
    model: Model,
    data: Mapping[str, Json],
    chosen: tuple[Candidate, ...],
    tail: int,
    rope: str = "",
) -> dict[str, Json]:
    """The judgement of a whole child: all of its edited blocks, over the last `tail` tokens.

    `rope` is the YaRN factor of the child, where it is not the parent's.
    """
    return {
        **({"rope": rope} if rope else {}),
        "kind": "assembled",
        "version": MEASURING,
        "parent": model.digest,
        "data": data,
        "blocks": sorted(c.artefact for c in chosen if c.changed),
        "tail": tail,
    }
