"""`surgery plan --top` and `--sweep`: several plans of one spec, in files beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import LLAMA_SPEC, Workplace

from surgery import explore
from surgery import plan as plans
from surgery.diagnostics import Sink
from surgery.ir import Model, Spec
from surgery.pipeline import Options
from surgery.solving.outcome import Proof

# ---- what is asked for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("share=60%..90%/4", ("60%", "70%", "80%", "90%")),
        ("share=60..90%/3", ("60%", "75%", "90%")),
        ("share=90%..60%/3", ("90%", "75%", "60%")),
        ("share = 0.6 .. 0.9 / 3", ("0.6", "0.75", "0.9")),
        ("room=1GiB..2GiB/3", ("1GiB", "1.5GiB", "2GiB")),
        ("count=4..8/3", ("4", "6", "8")),
        ("count=4..6/9", ("4", "5", "6")),
        ("share=0%..1%/4", ("0%", "0.333333%", "0.666667%", "1%")),
    ],
)
def test_a_sweep_is_read(text: str, values: tuple[str, ...]) -> None:
    found = explore.parse_sweep(text)
    assert found is not None
    assert found.values == values


@pytest.mark.parametrize(
    "text",
    [
        "share",
        "share=60%",
        "share=60%..90%",
        "share=60%..90%/1",
        "=1..2/3",
        "a=1..1/3",
        "a=1..2/1000",
        "a=1GiB..2/3",
        "a=1MiB..2GiB/3",
        "a=1.2.3..4/3",
        "a=x..y/3",
    ],
)
def test_what_is_no_sweep(text: str) -> None:
    assert explore.parse_sweep(text) is None


# ---- runs ------------------------------------------------------------------------------------


def test_a_sweep_writes_a_plan_for_every_value(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is the plan that `--set` makes; what nothing satisfies has none."""
    spec = workplace.write("swept.surg", LLAMA_SPEC)
    assert workplace.run("plan", spec, "--sweep", "share=30%..90%/4") == 0
    told = capsys.readouterr().out
    assert "minimize damage, by share:" in told
    assert told.count("nothing satisfies all") == 1
    folder = Path(spec).parent
    files = sorted(path.name for path in folder.glob("swept.*.plan"))
    assert files == [f"swept.share-{value}.plan" for value in ("50%", "70%", "90%")]
    objectives: list[float] = []
    for file in files:
        value = file.removeprefix("swept.share-").removesuffix(".plan")
        assert workplace.run("plan", spec, "--set", f"share={value}") == 0
        swept = (folder / file).read_bytes()
        assert swept == (folder / "swept.plan").read_bytes()
        objectives.append(float(plans.read(folder / file).objective[1]))
    assert objectives == sorted(objectives, reverse=True)


def test_a_sweep_works_out_once_what_does_not_change(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from surgery.passes import resolve

    spec = workplace.write("once.surg", LLAMA_SPEC)
    calls: list[str] = []
    known = resolve.run

    def counted(spec: Spec, sink: Sink, cache: Path) -> Model | None:
        calls.append("resolve")
        return known(spec, sink, cache)

    monkeypatch.setattr(resolve, "run", counted)
    over = explore.Sweep("share", ("90%", "80%", "70%"))
    options = Options(workplace.library, workplace.folder / "cache")
    found = explore.sweep(spec, Sink(), options, over)
    assert found is not None
    assert all(point.planned for point in found)
    assert calls == ["resolve"]
    moved = LLAMA_SPEC.replace("layers except layers[0]", "layers except layers[first]").replace(
        "input share: ratio = 85%", "input share: ratio = 85%\ninput first: count = 0"
    )
    spec = workplace.write("moved.surg", moved)
    calls.clear()
    found = explore.sweep(spec, Sink(), options, explore.Sweep("first", ("0", "1")))
    assert found is not None
    assert len(calls) == 2


def test_a_pool_of_plans_that_differ(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = workplace.write("pool.surg", LLAMA_SPEC)
    assert workplace.run("plan", spec, "--top", "3", "--distance", "2") == 0
    told = capsys.readouterr().out
    assert "differs in" in told
    made = [plans.read(Path(spec).with_suffix(f".{n}.plan")) for n in (1, 2, 3)]
    assert workplace.run("plan", spec) == 0
    assert plans.read(Path(spec).with_suffix(".plan")) == made[0]
    for number, one in enumerate(made):
        for other in made[:number]:
            pairs = zip(one.decisions, other.decisions, strict=True)
            assert len({a.layer for a, b in pairs if a != b}) >= 2
    values = [float(plan.objective[1]) for plan in made]
    assert values == sorted(values)


def test_conflicts_and_mistakes_are_reported(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = workplace.write("none.surg", LLAMA_SPEC)
    run = ["plan", spec, "--format", "concise"]
    assert workplace.run(*run, "--sweep", "share=1%..2%/2") == 1
    assert "E0601" in capsys.readouterr().err
    assert workplace.run(*run, "--sweep", "shore=60%..90%/2") == 2
    assert "shore" in capsys.readouterr().err
    for wrong in (
        ["--sweep", "share"],
        ["--distance", "2"],
        ["--top", "2", "--sweep", "a=1..2/2"],
        ["--top", "2", "--refine", "1"],
    ):
        assert workplace.run(*run, *wrong) == 2
    assert not list(Path(spec).parent.glob("none*.plan"))


def test_exact_and_limited(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    spec = workplace.write("limited.surg", LLAMA_SPEC)
    assert workplace.run("plan", spec, "--exact") == 0
    exact = Path(spec).with_suffix(".plan").read_bytes()
    assert workplace.run("plan", spec) == 0
    assert Path(spec).with_suffix(".plan").read_bytes() == exact
    assert workplace.run("plan", spec, "--time-limit", "1e-9", "--format", "concise") == 1
    assert "E0603" in capsys.readouterr().err
    assert Proof().seconds is None
