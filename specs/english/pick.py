"""Pick the plain English documents of the embedded model's text.

In: `../tinymoe/text/{calibration,heldout}.jsonl`. Out: the same lines, in order, whose kind is
`plain` and whose domain is not `code`, under the same names in this folder.
"""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent


def select(name: str) -> int:
    """Write one file; returns how many documents it has."""
    lines = (HERE.parent / "tinymoe" / "text" / name).read_text(encoding="utf-8").splitlines()
    kept: list[str] = []
    for line in lines:
        document = json.loads(line)
        if document["kind"] == "plain" and document["domain"] != "code":
            kept.append(line)
    (HERE / name).write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    return len(kept)


if __name__ == "__main__":
    for name in ("calibration.jsonl", "heldout.jsonl"):
        print(f"{name}: {select(name)} documents")
