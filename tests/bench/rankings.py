"""Which experts to keep: every ranking on the embedded mixture, beside lots.

    python tests/bench/rankings.py [--library DIR] [--tokens 512] [--samples 16] [--lots 5]

For each ranking and each share of the experts (3/4, 1/2, 1/4): the parent with that many experts
in every layer (uniform), and the child of the same size whose layers were chosen by the solver out
of 32, 24, 16, 8 and 4. Printed is KL(parent || child) on text that neither rankings nor scores have
seen, in nats per token with its standard error over samples. The control is lots (random): five,
each with its own seed, their mean and the standard deviation between them.

Takes about fifteen minutes on two cores; measurements are kept in the library, so that a second run
takes seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from surgery import console, pipeline, render
from surgery.diagnostics import Sink
from surgery.ir import Candidate, Site
from surgery.library import Library
from surgery.pipeline import Options, Planned
from surgery.scoring.assembled import Assembled, assembled

SPECS = Path(__file__).parents[2] / "specs"
EXPERTS, LAYERS = 32, 8
KEPT = (24, 16, 8)

RANKINGS = (
    "removal",
    "contribution",
    "reap",
    "activation",
    "mean_activation",
    "mean_square_activation",
    "frequency",
    "weighted_frequency",
    "ranked_choice",
)

SPEC = """surg 1

import "std/moe.surg" as moe

model parent = local("{parent}")

## Experts of all layers together.
input total: count = 192

dataset text = local("{text}/calibration.jsonl") {{
  take   = {samples}
  length = {tokens} tok
  seed   = 0
}}

dataset lots = local("{text}/calibration.jsonl") {{
  take   = {samples}
  length = {tokens} tok
  seed   = {seed}
}}

dataset heldout = local("{text}/heldout.jsonl") {{
  take   = {samples}
  length = {tokens} tok
  seed   = 1
}}

score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers {{
  keep
  retain 24 | 16 | 8 | 4 by moe.{ranking}({data})
}}

require @size sum(layers: experts) <= total

minimize damage

emit checkpoint "unused" {{ judge = heldout }}
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Whole)
    parser.add_argument("--library", type=Path, default=Path(".surgery/library"))
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--lots", type=int, default=5, help="how many, two at least")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, data, seed in _rankings(given.lots):
            found = tuple(_measure(Path(folder), name, data, seed, given))
            rows.append(Row(f"{name} {seed}" if data == "lots" else name, data == "lots", found))
            print(f"measured {rows[-1].title}", file=sys.stderr, flush=True)
    print("\n".join(_table(rows)))


# ---- the table -------------------------------------------------------------------------------


class Row(Struct, frozen=True):
    """One ranking, or one lot: KL on held-out text by column, two columns for each of `KEPT`."""

    title: str
    lot: bool
    found: tuple[Assembled, ...]


def _table(rows: list[Row]) -> Iterator[str]:
    yield f"{'experts kept':<22}" + "".join(f"{n:>19} of {EXPERTS}{'':>11}" for n in KEPT)
    yield f"{'':<22}" + f"{'uniform':>17} {'solved':>17} " * len(KEPT)
    columns = list(zip(*(row.found for row in rows), strict=True))
    lots = [[c.kl for c, row in zip(column, rows, strict=True) if row.lot] for column in columns]
    for row in rows:
        cells = [_cell(*each, row.lot) for each in zip(row.found, columns, lots, strict=True)]
        yield f"{row.title:<22}" + "".join(cells)
    spread = [f"{statistics.mean(kl):>9.4f} sd{statistics.stdev(kl):>6.4f}" for kl in lots]
    yield f"{f'mean of {len(lots[0])} lots':<22}" + "".join(f"{cell} " for cell in spread)
    yield "* the least of its column   ~ no better than the best lot   ! worse than every lot"


def _cell(found: Assembled, column: tuple[Assembled, ...], lots: list[float], lot: bool) -> str:
    mark = " "
    if found.kl == min(each.kl for each in column):
        mark = "*"
    elif not lot and found.kl >= min(lots):
        mark = "!" if found.kl > max(lots) else "~"
    return f"{found.kl:>8.4f} +-{found.kl_error:>6.4f}{mark}"


class _Whole(argparse.RawDescriptionHelpFormatter):
    """Prints the text above as it stands."""


def _rankings(lots: int) -> Iterator[tuple[str, str, int]]:
    yield from ((name, "text", 0) for name in RANKINGS)
    yield from (("random", "lots", seed) for seed in range(1, lots + 1))


def _measure(
    folder: Path, name: str, data: str, seed: int, given: argparse.Namespace
) -> Iterator[Assembled]:
    spec = folder / f"{name}-{seed}.surg"
    parent = SPECS / "tinymoe"
    values = {"parent": parent, "text": parent / "text", "ranking": name, "data": data}
    text = SPEC.format(seed=seed, samples=given.samples, tokens=given.tokens, **values)
    spec.write_text(text, encoding="utf-8")
    for count in KEPT:
        planned = _planned(spec, {"total": str(count * LAYERS)}, given.library)
        heldout = next(d for d in planned.spec.datasets if d.name == "heldout")
        library = Library(given.library)
        for chosen in (_uniform(planned, count), planned.chosen):
            yield assembled(planned.spec, planned.space, chosen, heldout, library)


def _planned(spec: Path, settings: dict[str, str], library: Path) -> Planned:
    sink = Sink()
    planned = pipeline.plan(str(spec), sink, Options(library, console.cache_folder(), settings))
    if planned is None:
        raise SystemExit(render.render(sink.sorted()))
    return planned


def _uniform(planned: Planned, count: int) -> tuple[Candidate, ...]:
    """Every layer keeps `count` experts; all else is the parent's."""
    wanted = {Site.EXPERTS: str(count)}
    return tuple(
        next(c for c in option.candidates if c.text == wanted.get(option.site, c.text))
        for option in planned.space.options
    )


if __name__ == "__main__":
    main()
