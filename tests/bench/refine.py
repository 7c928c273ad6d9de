"""What planning in rounds is worth: `python tests/bench/refine.py [SPEC] [--share 85 70 58]`.

In: a spec with an input `share` and a `judge` dataset, the embedded mixture of experts unless told
otherwise. Out: a table per share: the additive optimum, the refined one, and what simpler ways of
choosing make of the same requirements: what the sums predict, what the child measures on the text
of the scores, and on text that nothing else has seen. Errors are standard errors over samples;
random choices are means over seeds, with the standard deviation between them. Below stands what
refining has changed, sample by sample, with a 95 % interval (a bootstrap over samples): samples
differ more from each other than children do.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from surgery import pipeline
from surgery.diagnostics import Sink
from surgery.ir import Candidate, Dataset
from surgery.library import Library
from surgery.passes import constrain, refine, rivals, score
from surgery.pipeline import Options, Planned
from surgery.progress import silent
from surgery.scoring.assembled import Assembled, assembled, divergences

DRAWS = 10_000
ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", nargs="?", default=str(ROOT / "specs" / "quickstart.surg"))
    parser.add_argument("--share", type=int, nargs="+", default=[85, 70, 58], help="percent")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3, help="of the random choices")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="inputs")
    parser.add_argument("--library", type=Path, help="where measurements are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = options.library or Path(folder) / "library"
        for share in options.share:
            inputs = dict(each.split("=", 1) for each in options.set)
            run = Options(library, Path(folder) / "cache", {**inputs, "share": f"{share}%"})
            _table(share, options.spec, run, options.rounds, options.seeds)


def _table(share: int, spec: str, options: Options, rounds: int, seeds: int) -> None:
    sink = Sink()
    planned = pipeline.plan(spec, sink, options)
    assert planned is not None, [each.message for each in sink.found]
    library = Library(options.library)
    measured = score.run(planned.spec, planned.space, library, sink, silent)
    assert measured is not None
    problem = constrain.run(planned.spec, planned.space, measured, sink)
    assert problem is not None
    refined = refine.run(problem, planned.chosen, library, sink, silent, rounds)
    rows = [("additive optimum", planned.chosen), ("refined", refined.chosen)]
    rows += [(r.name, problem.candidates(r.chosen)) for r in rivals.run(problem, seeds)]
    print(
        f"share {share}%   rounds {len(refined.steps)}, taken {sum(s.taken for s in refined.steps)}"
    )
    print(f"{'':<20}{'predicted':>10}{'measured':>18}{'held out':>18}{'perplexity':>12}")
    lots: list[tuple[float, Assembled, Assembled]] = []
    for name, chosen in rows:
        sums = float(sum(measured.damage["damage"][c.address] for c in chosen))
        seen, unseen = (_judge(planned, chosen, d, library) for d in _datasets(planned))
        if name.startswith("random"):
            lots.append((sums, seen, unseen))
        else:
            print(
                f"{name:<20}{sums:>10.4f}{_text(seen)}{_text(unseen)}{unseen.child_perplexity:>12.2f}"
            )
    if lots:
        sums = statistics.mean(s for s, _, _ in lots)
        texts = (_spread([one.kl for _, one, _ in lots]), _spread([one.kl for _, _, one in lots]))
        perplexity = statistics.mean(lot[2].child_perplexity for lot in lots)
        print(f"{f'random, {len(lots)} seeds':<20}{sums:>10.4f}{''.join(texts)}{perplexity:>12.2f}")
    missing = [way for way in rivals.WAYS if way not in {name for name, _ in rows}]
    print(f"no choice of theirs keeps the requirements: {', '.join(missing) or 'none'}")
    for what, dataset in zip(("measured", "held out"), _datasets(planned), strict=True):
        print(f"refined - additive optimum, {what}: {_paired(planned, refined.chosen, dataset)}")
    print(flush=True)


def _paired(planned: Planned, refined: tuple[Candidate, ...], dataset: Dataset) -> str:
    each = (
        np.array(divergences(planned.spec, planned.space, chosen, dataset))
        for chosen in (refined, planned.chosen)
    )
    new, old = each
    change = new - old
    random = np.random.default_rng(0)
    means = random.choice(change, (DRAWS, len(change))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    better = int((change < 0).sum())
    return f"{change.mean():+.4f} ({low:+.4f} to {high:+.4f}), better in {better} of {len(change)}"


def _datasets(planned: Planned) -> tuple[Dataset, Dataset]:
    """The text of the score, and the text that judges."""
    named = {dataset.name: dataset for dataset in planned.spec.datasets}
    judge = next(emit.judge for emit in planned.spec.emits if emit.judge)
    return named[planned.spec.scores[0].dataset], named[judge]


def _judge(
    planned: Planned, chosen: tuple[Candidate, ...], dataset: Dataset, library: Library
) -> Assembled:
    return assembled(planned.spec, planned.space, chosen, dataset, library)


def _text(found: Assembled) -> str:
    return f"{f'{found.kl:.4f} ± {found.kl_error:.4f}':>18}"


def _spread(values: Sequence[float]) -> str:
    between = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{f'{statistics.mean(values):.4f} ± {between:.4f}':>18}"


if __name__ == "__main__":
    main()
