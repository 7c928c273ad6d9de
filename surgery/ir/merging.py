"""Which experts of a layer become one, and how much each of them counts: `Merging`, and its text.

In: groups of experts with weights, or the text of a plan. Out: the record, and canonical text (same
content, same bytes). Refuses, as `None`, texts that it would not have written. Not here: how groups
are found (`scoring/clusters.py`), what is done with them (`edits/experts.py`).
"""

from __future__ import annotations

import re

from msgspec import Struct

_MEMBER = re.compile(r"([0-9]{1,6})\*(0|[1-9][0-9]{0,17})")


class Merging(Struct, frozen=True):
    """Groups of (expert, weight); the child's expert n is the weighted mean of group n.

    Weights are whole numbers, tokens as a rule, and not all 0 in any group. The first of a group is
    its survivor, the others ascend; groups ascend by survivor.
    """

    groups: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def survivors(self) -> tuple[int, ...]:
        """The first of each group, ascending: whose routes stay."""
        return tuple(group[0][0] for group in self.groups)

    @property
    def text(self) -> str:
        """`0*412+5*13,1*77`: expert times weight, groups apart by commas."""
        return ",".join("+".join(f"{e}*{weight}" for e, weight in group) for group in self.groups)

    def verify(self, experts: int, value: int) -> None:
        """Raise `ValueError` unless this makes `value` of `experts` experts."""
        members = sorted(e for group in self.groups for e, _ in group)
        if len(self.groups) != value or members != list(range(experts)):
            raise ValueError(f"{len(self.groups)} groups are not {value} of {experts} experts")
        if self.survivors != tuple(sorted(self.survivors)):
            raise ValueError("groups are out of order")
        for group in self.groups:
            others = [e for e, _ in group[1:]]
            if others != sorted(others):
                raise ValueError(f"the group of expert {group[0][0]} is out of order")
            if min(w for _, w in group) < 0 or not any(w for _, w in group):
                raise ValueError(f"the group of expert {group[0][0]} has no weight")


def merging_of(text: str) -> Merging | None:
    """What `Merging.text` wrote; `None` for anything else."""
    groups: list[tuple[tuple[int, int], ...]] = []
    for part in text.split(","):
        found = [_MEMBER.fullmatch(member) for member in part.split("+")]
        groups.append(tuple((int(m[1]), int(m[2])) for m in found if m is not None))
        if None in found:
            return None
    made = Merging(tuple(groups))
    members = sum(map(len, groups))
    try:
        made.verify(members, len(groups))
    except ValueError:
        return None
    return made if made.text == text else None
