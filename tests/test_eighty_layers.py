"""Tables alone decide 80 layers of 16 alternatives, and three plans that differ, proven optimal."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path

import pytest
from bench.table import HIDDEN, LAYERS, WIDTH, write
from msgspec.structs import replace

from surgery import plan as plans
from surgery.cli import main
from surgery.ir import Plan, Site


def differing(first: Plan, second: Plan) -> int:
    pairs = zip(first.decisions, second.decisions, strict=True)
    return len({a.layer for a, b in pairs if a.text != b.text})


def worth(plan: Plan, table: Path, metric: str) -> float:
    """What the table says of the alternatives of a plan; what it does not list is the parent's."""
    with table.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == metric]
    listed = {row["address"]: float(row["value"]) for row in rows}
    return sum(listed.get(f"layer.{d.layer}.{d.site.value}.{d.text}", 0.0) for d in plan.decisions)


def whole_parent(plan: Plan) -> Plan:
    """The same layers, unchanged."""
    unchanged = {Site.ATTENTION: "full", Site.FFN: str(WIDTH)}
    return replace(
        plan, decisions=tuple(replace(d, text=unchanged[d.site]) for d in plan.decisions)
    )


def test_three_plans_are_exact_and_far_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 0, times=False)
    spec, table = tmp_path / "table.surg", tmp_path / "table.csv"
    run = ["plan", str(spec), "--table", str(table), "--exact", "--top", "3", "--distance", "20"]
    assert main(run) == 0
    assert "differs in" in capsys.readouterr().out
    made = [plans.read(tmp_path / f"table.{n}.plan") for n in (1, 2, 3)]
    for plan in made:
        assert dict(plan.solver)["status"] == "optimal"
        assert dict(plan.solver)["gap"] == "0"
        assert len({d.layer for d in plan.decisions}) == LAYERS
    assert all(differing(*pair) >= 20 for pair in combinations(made, 2))
    values = [worth(plan, table, "damage") for plan in made]
    assert values == sorted(values)
    assert [float(plan.objective[1]) for plan in made] == pytest.approx(values, abs=5e-4)
    whole = worth(whole_parent(made[0]), table, "params")
    fixed = 2 * 32000 * HIDDEN + HIDDEN  # embeddings, head and the last norm
    for plan in made:
        assert worth(plan, table, "params") + fixed <= 0.65 * (whole + fixed)
        assert sum(d.text == "noop" for d in plan.decisions) >= 0.3 * LAYERS
