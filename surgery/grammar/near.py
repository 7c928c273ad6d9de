"""Which existing names resemble a misspelt one.

In: a word and the names that exist. Out: the nearest of them, best first, or none. Not here: what
to say about them.
"""

from __future__ import annotations

from collections.abc import Iterable


def distance(a: str, b: str, most: int = 60) -> int:
    """How many letters to insert, delete, replace or swap with a neighbour to make `a` into `b`.

    Beyond `most`, any larger number.
    """
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
        if min(before) > most and min(last) > most:
            return most + 1
    return last[-1]


def nearest(word: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names closest to a word if they are close enough to be what was meant.

    Close enough is one change in up to four letters, two in up to eight, else three, case aside.
    Several names are returned only when they are equally close.
    """
    if len(word) > 60:
        return ()
    limit = 1 if len(word) <= 4 else 2 if len(word) <= 8 else 3
    low = word.lower()
    letters = set(low)
    # A change brings or takes at most one letter: most names need no closer look.
    scored = sorted(
        (distance(low, name.lower(), limit), name)
        for name in set(names)
        if abs(len(name) - len(word)) <= limit and len(letters.difference(name.lower())) <= limit
    )
    return tuple(n for d, n in scored if d == scored[0][0] and d <= limit)
