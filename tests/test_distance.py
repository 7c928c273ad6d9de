"""`distance(local("a.plan"))`: exact, read from the file, and in the plan that is made with it."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest
from check_fixtures import BASE
from conftest import GPT_OSS_SPEC, LLAMA_SPEC, Workplace
from msgspec.structs import replace
from solving_fixtures import NOWHERE, Formulas, assignments, child, toy_space, toy_spec
from solving_strategies import problem_of, varied

from surgery import evaluate, lockfile
from surgery import plan as plans
from surgery.diagnostics import Sink
from surgery.expr import Compare, Distance
from surgery.grammar.parse import parse
from surgery.ir import Candidate, Plan, Spec
from surgery.passes import check, solve
from surgery.source import Source
from surgery.units import PARAMS

F = Formulas()
FAR = (9, "attention", "sink(4)", True)
"""A decision that no toy space offers."""


def _decided(chosen: tuple[Candidate, ...]) -> list[tuple[int, str, str, bool]]:
    return [(c.layer, c.site.value, c.text, c.changed) for c in chosen]


def _away(first: list[tuple[int, str, str, bool]], second: list[tuple[int, str, str, bool]]) -> int:
    pairs = zip(first, second, strict=True)
    return len({a[0] for a, b in pairs if a != b})


# ---- as rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_distance_counts_the_layers_that_are_decided_otherwise(seed: int) -> None:
    """Rows, evaluation and counting by hand agree for every choice, offered or not."""
    draw = random.Random(seed)
    space, measured = toy_space(varied(2))
    every = assignments(space)
    decided = _decided(draw.choice(every))
    if seed % 2:
        place = draw.randrange(len(decided))
        layer, site, *_ = decided[place]
        decided[place] = (layer, site, "linear", True)
    wanted = Distance(NOWHERE, "a.plan", "", "", tuple(decided))
    op, limit = draw.choice([("<=", 1), (">=", 1), (">=", 2), ("<=", 0), ("==", 1)])
    wish = F.compare(wanted, op, F.number(limit, unit="layers"))
    size = F.compare(F.metric("params"), "<=", F.number(draw.randint(2000, 3000), PARAMS))
    spec = toy_spec(wish, size)
    sink = Sink()
    problem = problem_of(spec, space, measured)
    clause = problem.clauses[0]
    columns = {c.address: n for n, c in enumerate(space.candidates)}
    best: Fraction | None = None
    for chosen in every:
        on = [columns[c.address] for c in chosen]
        made = problem.result(on)
        apart = _away(_decided(chosen), decided)
        assert evaluate.number(wanted, made) == apart
        assert clause.value.at(problem.columns.active(on)) == apart
        holds = {"<=": apart <= limit, ">=": apart >= limit, "==": apart == limit}[op]
        assert clause.holds(problem.columns.active(on)) is holds
        context = child(spec, space, measured, chosen)
        if holds and evaluate.holds(size, context):
            value = evaluate.number(spec.objective.expr, context)
            best = value if best is None else min(best, value)
    found = solve.run(problem, sink)
    assert (found.objective if found else None) == best


# ---- in a spec -------------------------------------------------------------------------------


def _spec(folder: Path, text: str) -> tuple[Spec | None, Sink]:
    sink = Sink()
    tree = parse(Source(str(folder / "a.surg"), BASE + text), sink)
    return check.run(tree, sink, {}), sink


def _plan() -> Plan:
    from plan_fixtures import example

    return example()


@pytest.mark.parametrize(
    "text",
    [
        'require @near distance(local("old/a.plan")) <= 4 layers\n',
        'let released = local("old/a.plan")\nrequire @near distance(released) <= 4 layers\n',
        'fn near(p: text) -> count = distance(local(p))\nrequire near("old/a.plan") <= 4 layers\n',
        'require @near distance(plan: local("old/a.plan")) <= 4 layers\n',
    ],
)
def test_a_spec_holds_what_the_plan_decides(text: str, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    file = tmp_path / "old" / "a.plan"
    file.write_text(plans.text(_plan()), encoding="utf-8")
    spec, sink = _spec(tmp_path, text)
    assert spec is not None, sink.found
    (wish,) = (r.expr for r in spec.requirements if isinstance(r.expr, Compare))
    assert isinstance(wish.first, Distance)
    assert wish.first.decided[4:6] == (
        (2, "attention", "window(128)", False),
        (2, "experts", "16", True),
    )
    assert wish.first.digest == lockfile.decision(_plan())[:16]
    assert plans.named(spec) == (("old/a.plan", wish.first.digest),)
    # Comments and lists of slices mean nothing, decisions do.
    told = [replace(d, kept=None) for d in _plan().decisions]
    file.write_text(plans.text(replace(_plan(), decisions=tuple(told))), encoding="utf-8")
    same, _ = _spec(tmp_path, text)
    told[0] = replace(told[0], text="full")
    file.write_text(plans.text(replace(_plan(), decisions=tuple(told))), encoding="utf-8")
    other, _ = _spec(tmp_path, text)
    assert same is not None
    assert other is not None
    assert same.digest == spec.digest != other.digest


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ('require distance(local("no.plan")) <= 4 layers', "E0001", "no such file"),
        ('require distance(local("bad.plan")) <= 4 layers', "E0808", "this is not a plan file"),
        ('require distance(hf("a/b")) <= 4 layers', "E0302", "a plan cannot come from `hf(...)`"),
        ("require distance(text) <= 4 layers", "E0302", "cannot be a dataset"),
        ("require distance() <= 4 layers", "E0303", "needs `plan`"),
        ('require distance(local("a.plan")) <= 4GiB', "E0301", "compare"),
        ('expect distance(local("a.plan")) <= 4 layers', "E0508", "before anything is chosen"),
        (
            'require count(layers where distance(local("a.plan")) <= 1) <= 2',
            "E0502",
            "whole result",
        ),
        ('require distance(local("a.plan")) * params <= 2 params', "E0502", "not linear"),
    ],
)
def test_what_is_no_distance(text: str, code: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_text(plans.text(_plan()), encoding="utf-8")
    (tmp_path / "bad.plan").write_text("surg 1\n", encoding="utf-8")
    spec, sink = _spec(tmp_path, text + "\n")
    assert spec is None
    (found,) = sink.found
    assert found.code.id.startswith(code)
    assert message in found.message


# ---- the command -----------------------------------------------------------------------------

SMALLER = LLAMA_SPEC.replace("input share: ratio = 85%", "input share: ratio = 70%")


def _layers(first: Path, second: Path) -> int:
    one, other = (
        [(d.layer, d.text, bool(d.artefact)) for d in plans.read(path).decisions]
        for path in (first, second)
    )
    return len({a[0] for a, b in zip(one, other, strict=True) if a != b})


def test_near_and_away(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workplace.run("plan", workplace.write("base.surg", LLAMA_SPEC)) == 0
    base = workplace.folder / "base.plan"
    assert workplace.run("plan", workplace.write("free.surg", SMALLER)) == 0
    assert _layers(base, workplace.folder / "free.plan") == 4
    digest = lockfile.decision(plans.read(base))[:16]
    for name, text, wish, expected in (
        ("near", SMALLER, "<= 3", 3),
        ("away", LLAMA_SPEC, ">= 2", 2),
    ):
        apart = f'require @apart distance(local("base.plan")) {wish} layers\n'
        spec = workplace.write(f"{name}.surg", text + apart)
        assert workplace.run("plan", spec) == 0
        made = workplace.folder / f"{name}.plan"
        assert _layers(base, made) == expected
        assert f"require @apart {expected} {wish}\n" in made.read_text("utf-8")
        assert f"\nplan      base.plan sha256:{digest}\n" in made.read_text("utf-8")
        assert f"distance   from base.plan ({digest[:8]})" in capsys.readouterr().out
        assert workplace.run("compile", spec, "--plan", str(made), "-o", f"{name}.out") == 0


def test_a_plan_is_stale_when_the_one_it_is_near_to_changes(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workplace.run("plan", workplace.write("base.surg", LLAMA_SPEC)) == 0
    text = SMALLER + 'require @apart distance(local("base.plan")) >= 1 layers\n'
    spec = workplace.write("near.surg", text)
    assert workplace.run("plan", spec) == 0
    assert workplace.run("plan", str(workplace.folder / "base.surg"), "--set", "share=60%") == 0
    capsys.readouterr()
    arguments = ["compile", spec, "--plan", str(workplace.folder / "near.plan"), "-o", "out"]
    assert workplace.run(*arguments) == 1
    told = capsys.readouterr().err
    assert (
        "`base.plan`, which the spec names, decides otherwise than when this plan was made" in told
    )
    assert "the spec has changed" not in told


def test_a_plan_that_is_too_far_is_not_carried_out(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The distance is counted again from the decisions, whatever the file says of it."""
    assert workplace.run("plan", workplace.write("base.surg", LLAMA_SPEC)) == 0
    near = SMALLER + 'require @apart distance(local("base.plan")) <= 3 layers\n'
    spec = workplace.write("near.surg", near)
    assert workplace.run("plan", spec) == 0
    assert workplace.run("plan", workplace.write("free.surg", SMALLER)) == 0
    good = plans.read(workplace.folder / "near.plan")
    free = plans.read(workplace.folder / "free.plan")
    forged = replace(good, decisions=free.decisions, metrics=free.metrics)
    (workplace.folder / "near.plan").write_text(plans.text(forged), encoding="utf-8")
    capsys.readouterr()
    plan = str(workplace.folder / "near.plan")
    assert workplace.run("compile", spec, "--plan", plan, "-o", "out") == 1
    told = capsys.readouterr().err
    assert "does not meet this requirement" in told
    assert "require @apart distance" in told


def test_plans_of_something_else(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workplace.run("plan", workplace.write("base.surg", LLAMA_SPEC)) == 0
    base = workplace.folder / "base.plan"
    wish = 'require @apart distance(local("base.plan")) <= 4 layers\n'
    assert workplace.run("plan", workplace.write("moe.surg", GPT_OSS_SPEC + wish)) == 1
    assert "error[E0424]" in capsys.readouterr().err
    made = plans.read(base)
    base.write_text(plans.text(replace(made, parent=("local:llama", "0" * 16))), encoding="utf-8")
    assert workplace.run("plan", workplace.write("near.surg", LLAMA_SPEC + wish)) == 0
    assert "warning[W0720]" in capsys.readouterr().err
