"""Interpolated modified Kneser-Ney: the baseline the model has to beat on its own training text.

In: the training token stream (every token once) and ids to score.
Out: log-probabilities (nats) of each next token, every one from the full preceding context.
Three discounts an order (Chen and Goodman), continuation counts below the highest order, and the
uniform distribution below the unigrams. Refuses vocabularies that do not fit five to a 64-bit key.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 12
Keys = NDArray[np.uint64]


def keys(ids: NDArray[np.int64], order: int) -> Keys:
    """Pack each run of `order` ids into one number, the oldest id in the highest bits."""
    packed = np.zeros(len(ids) - order + 1, dtype=np.uint64)
    for place in range(order):
        part = ids[place : len(ids) - order + 1 + place].astype(np.uint64)
        packed = (packed << np.uint64(BITS)) | part
    return packed


def find(table: Keys, wanted: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give the place of each wanted key, and whether it is there."""
    place = np.searchsorted(table, wanted).clip(max=len(table) - 1)
    return place, table[place] == wanted


@dataclass(frozen=True, slots=True)
class Order:
    """The n-grams of one length with their counts, and what their contexts add up to."""

    grams: Keys
    counts: NDArray[np.int64]
    discounts: NDArray[np.float64]
    contexts: Keys
    totals: NDArray[np.float64]
    reserved: NDArray[np.float64]


def make_order(grams: Keys, counts: NDArray[np.int64]) -> Order:
    """Work out the discounts and each context's total and reserved mass."""
    n1, n2, n3, n4 = (int((counts == n).sum()) for n in range(1, 5))
    y = n1 / (n1 + 2 * n2)
    levels = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    discounts = np.array([0.0, *levels])[counts.clip(max=3)]
    contexts, inverse = np.unique(grams >> np.uint64(BITS), return_inverse=True)
    totals = np.bincount(inverse, weights=counts)
    reserved = np.bincount(inverse, weights=discounts) / totals
    return Order(grams, counts, discounts, contexts, totals, reserved)


class KneserNey:
    """The model."""

    def __init__(self, stream: NDArray[np.int64], vocabulary: int, order: int = 5) -> None:
        if vocabulary > 1 << BITS or order * BITS > 64:
            raise ValueError(f"{vocabulary} ids do not fit {order} to a key")
        self.vocabulary, self.order = vocabulary, order
        grams, counts = np.unique(keys(stream, order), return_counts=True)
        self.orders = [make_order(grams, counts)]
        for length in range(order - 1, 0, -1):
            grams = np.unique(keys(stream, length + 1))
            mask = np.uint64((1 << (BITS * length)) - 1)
            lower, counts = np.unique(grams & mask, return_counts=True)
            self.orders.insert(0, make_order(lower, counts))

    def score(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the log-probability of ids[1:], each after all that precedes it."""
        padded = np.concatenate((np.full(self.order - 2, ids[0]), ids))
        size = len(ids) - 1
        probability = np.full(size, 1.0 / self.vocabulary)
        for length, table in enumerate(self.orders, start=1):
            wanted = keys(padded, length)[-size:]
            place, known = find(table.contexts, wanted >> np.uint64(BITS))
            total = np.where(known, table.totals[place], 1.0)
            reserved = np.where(known, table.reserved[place], 1.0)
            gram, seen = find(table.grams, wanted)
            kept = np.where(seen, table.counts[gram] - table.discounts[gram], 0.0) / total
            probability = kept + reserved * probability
        return np.log(probability)


def check(model: KneserNey, context: NDArray[np.int64]) -> float:
    """Give the sum of the probabilities of every id after a context; it must be 1."""
    ids = (np.append(context, token) for token in range(model.vocabulary))
    return sum(float(np.exp(model.score(row)[-1])) for row in itertools.islice(ids, None))
