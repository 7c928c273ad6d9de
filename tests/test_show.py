"""Views of plans and differences, letter by letter."""

from __future__ import annotations

from msgspec.structs import replace
from plan_fixtures import changed, example

from surgery.diff import diff
from surgery.ir import Evidence, Site
from surgery.plan import decision
from surgery.show import diff_text, plan_text


def same(got: str, want: str) -> None:
    assert got.splitlines() == want.strip("\n").splitlines()


def test_plan_from_the_file_alone() -> None:
    same(
        plan_text(example()),
        """
tiny-moe would change in 3 of 6 layers:

  attention  3 x window(128), 2 x full, 1 x window(8K)
               window(8K) in 3
  experts    4 x 32, 2 x 16                  16 in 2 4

                    plan
  params          88.15B
  weights       46.56GiB
  kv@128K  1346.2MiB/seq
  damage          0.4039
  reach           0.0176

  requirement       plan          limit  slack
  @kv          1346.2MiB  <=  1400.0MiB   3.8%
  @sight               2  >=          2   0.0%
  @size           88.15B  <=     88.50B   0.4%

  minimize damage + 0.5 * reach: 0.4127  (status=optimal gap=0 seed=0)
""",
    )


def test_plan_beside_its_parent() -> None:
    metrics = {"params": "116.83B", "weights": "60.77GiB", "kv@128K": "4612.5MiB/seq"}
    table = """
                  parent           plan  change
  params         116.83B         88.15B  -24.5%
  weights       60.77GiB       46.56GiB  -23.4%
  kv@128K  4612.5MiB/seq  1346.2MiB/seq  -70.8%
  damage               0         0.4039
  reach                0         0.0176
"""
    same(plan_text(example(), metrics).split("\n\n")[2], table)


def test_plan_that_changes_nothing() -> None:
    plan = example()
    decisions = tuple(
        replace(d, text="full" if d.site is Site.ATTENTION else "32", artefact="", kept=None)
        for d in plan.decisions
    )
    text = plan_text(replace(plan, decisions=decisions))
    assert text.startswith("tiny-moe would change nothing in 6 layers\n\n  ")
    assert "experts" not in text


def test_plan_edited_by_hand() -> None:
    text = plan_text(replace(example(), stated="0123456789abcdef"))
    assert f"states decision 01234567, its decisions are {decision(example())[:8]}" in text


def test_diff() -> None:
    same(
        diff_text(diff(example(), changed()), "a.plan", "b.plan"),
        f"""
  decision   {decision(example())[:8]} -> {decision(changed())[:8]}
  spec       changed    @size <= 88.50B -> 84.00B
  unchanged  parent, library, toolchain

  attention
    ~ layer 3  window(8K) -> full

  experts
    ~ layers 0-1  32 -> 16
    = layer 4     16    same decision, different slices kept

                         a.plan         b.plan  change  limit
  objective              0.4127         0.4719  +14.3%  minimize
  require @kv         1346.2MiB      1226.2MiB   -8.9%  <= 1400.0MiB
  require @sight              2              3  +50.0%  >= 2
  require @size          88.15B         83.37B   -5.4%  <= 84.00B  (was 88.50B)
  params                 88.15B         83.37B   -5.4%
  weights              46.56GiB       44.19GiB   -5.1%
  kv@128K         1346.2MiB/seq  1226.2MiB/seq   -8.9%
  damage                 0.4039         0.4619  +14.4%
  reach                  0.0176         0.0176       =

  4 of 6 layers differ: attention in 1, experts in 2, remade in 1. No requirement is violated.
""",
    )


def test_diff_of_equal_decisions() -> None:
    a = example()
    assert diff_text(diff(a, a), "a.plan", "b.plan").endswith(
        "same decisions; no measurement moved"
    )
    metrics = tuple((n, "0.4019" if n == "damage" else v) for n, v in a.metrics)
    b = replace(a, library="9" * 64, metrics=metrics)
    same(
        diff_text(diff(a, b), "a.plan", "b.plan"),
        """
  library    changed
  unchanged  spec, parent, toolchain

  same decisions; 1 measurement moved, largest -0.5%
""",
    )


def test_diff_tells_of_a_violated_requirement() -> None:
    b = replace(changed(), requirements=(Evidence("@kv", "1500.0MiB", "<=", "1400.0MiB"),))
    text = diff_text(diff(example(), b), "a.plan", "b.plan")
    assert text.endswith("Violated: @kv.")
