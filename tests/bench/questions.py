"""What questions about a plan cost beside making it: `python tests/bench/questions.py [--runs 5]`.

In: the search of gpt-oss-120b (`tests/golden/gpt-oss-120b`, scores made up, sizes exact). Out: the
median seconds of the answer with its ties broken, of the optimum alone, and of each question: the
price list of a layer, the prices of all limits, a requirement given up, a distance of at most four
layers from the answer, the least relaxation of two requirements that conflict, simpler choices.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from msgspec.structs import replace

from surgery.diagnostics import Sink
from surgery.passes import pool, prices, relax, rivals, why
from surgery.passes.constrain import Problem
from surgery.passes.solve import Solution, Solver
from surgery.pipeline import Options, Run, answered, pose
from surgery.solving.linear import constant

TESTS = Path(__file__).parent.parent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    sys.path.insert(0, str(TESTS))
    from test_gpt_oss_120b import GOLDEN, table_rows

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "work"
        shutil.copytree(GOLDEN, folder)
        (folder / "scores.csv").write_text("\n".join(table_rows()) + "\n", encoding="utf-8")
        options = Options(folder / "library", folder / "cache", tables=(folder / "scores.csv",))
        run = Run(Sink(), options)
        posed = pose(str(folder / "search.surg"), run)
        answer = answered(posed, run)
        tight = (folder / "search.surg").read_text("utf-8").replace("88.5B", "60B")
        (folder / "tight.surg").write_text(tight.replace("<= 0.020", "<= 0.003"), "utf-8")
        conflict = _stated(str(folder / "tight.surg"), options)
        questions = {"the answer": lambda: answered(posed, run)}
        questions |= _questions(answer.problem, answer.solution, conflict)
        for what, work in questions.items():
            print(f"{what:<44}{median(_seconds(work) for _ in range(runs)):>8.3f} s")


def _stated(path: str, options: Options) -> Problem:
    from surgery.passes import batches

    run = Run(Sink(), replace(options, relax=("@size", "@reach")))
    posed = pose(path, run)
    ((_, problem),) = batches.stated(posed.spec, posed.space, posed.measured, run.sink)
    return problem


def _questions(
    problem: Problem, solution: Solution, conflict: Problem
) -> dict[str, Callable[[], object]]:
    def solver() -> Solver:
        return Solver(problem.columns)

    far = problem.columns.space.options[-1].layer
    layers = far + 1
    # At least 4 differ, turned round: at most 4.
    apart = pool.differs(problem, solution, 4)
    near = constant(0).plus(apart, -1)
    labels = ("@size", "@reach")
    return {
        "the optimum alone": lambda: solver().minimise(problem.rows, problem.goal),
        f"--why layer {far}": lambda: why.run(problem, solution, far, solver(), 0.0),
        f"--prices, {len(problem.clauses)} requirements": lambda: prices.run(
            problem, solution, solver(), 0.0
        ),
        "--relax @size, given up": lambda: relax.bought(
            problem, "@size", solution.objective, solver(), 0.0
        ),
        "--relax @size --relax @reach, a conflict": lambda: relax.least(
            conflict, labels, Solver(conflict.columns), Sink()
        ),
        f"at most 4 of {layers} layers from the answer": lambda: solver().minimise(
            (*problem.rows, near), problem.goal
        ),
        "--rivals": lambda: rivals.run(problem, rivals.SEEDS),
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
