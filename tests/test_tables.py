"""Tables of scores, costs and kept lists: exchanged between machines, and refused by the row."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, Workplace

from surgery import lockfile, pipeline
from surgery.diagnostics import Diagnostic, Sink
from surgery.ir import Plan
from surgery.passes import table_file
from surgery.pipeline import Options, Planned

HEADLESS = GPT_OSS_SPEC.replace('local("gpt_oss")', 'local("headless")')
SCORES = {
    "layer.0.experts.6": 0.25,
    "layer.0.experts.4": 0.5,
    "layer.1.experts.6": 0.01,
    "layer.1.experts.4": 0.02,
    "layer.2.experts.6": 0.125,
    "layer.2.experts.4": 0.75,
    "layer.3.experts.6": 0.03,
    "layer.3.experts.4": 0.04,
    "layer.1.attention.window(32)": 0.5,
    "layer.3.attention.window(32)": 0.5,
}


@pytest.fixture
def headless(workplace: Workplace) -> Workplace:
    """A folder with a parent that is a config alone, without a tokenizer or weights."""
    folder = workplace.folder / "headless"
    folder.mkdir()
    shutil.copy(workplace.folder / "gpt_oss" / "config.json", folder)
    workplace.write("a.surg", HEADLESS)
    return workplace


def rows(scores: dict[str, float], *more: str) -> str:
    listed = [f"{address},damage,{value}" for address, value in scores.items()]
    return "\n".join(("address,metric,value", *listed, *more)) + "\n"


def planned(place: Workplace, *tables: str) -> tuple[Planned | None, Sequence[Diagnostic]]:
    """Plan `a.surg` with tables of these texts."""
    sink = Sink()
    paths = [Path(place.write(f"t{n}.csv", text)) for n, text in enumerate(tables)]
    options = Options(place.library, place.folder / "cache", tables=tuple(paths))
    return pipeline.plan(str(place.folder / "a.surg"), sink, options), sink.sorted()


def texts(plan: Plan) -> list[tuple[int, str, str]]:
    return [(d.layer, d.site.value, d.text) for d in plan.decisions]


# ---- exchange --------------------------------------------------------------------------------


def test_a_library_that_travels_as_a_table_decides_the_same(
    headless: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from surgery.cli import main

    spec = headless.write("b.surg", GPT_OSS_SPEC)
    assert headless.run("plan", spec, "-o", "measured.plan") == 0
    command = ["library", spec, "--library", str(headless.library), "--csv", "all.csv"]
    capsys.readouterr()
    assert main(command) == 0
    assert "damage       10 of 10 measured" in capsys.readouterr().out

    empty = tmp_path / "empty"
    again = ["plan", spec, "-o", "given.plan", "--table", "all.csv", "--library", str(empty)]
    assert main(again) == 0
    assert "score" not in capsys.readouterr().err
    assert not empty.exists(), "nothing was measured"
    ours, theirs = (
        lockfile.parse(Path(f"{name}.plan").read_text(), name) for name in ("measured", "given")
    )
    assert theirs.decisions == ours.decisions
    assert any(d.kept for d in ours.decisions)
    assert (theirs.objective, theirs.requirements) == (ours.objective, ours.requirements)
    assert [name for name, _ in theirs.tables] == ["all.csv"]
    assert ours.tables == ()

    # The same where there is nothing but a config: all but the hashes, which cover the weights.
    bare, found = planned(headless, Path("all.csv").read_text())
    assert bare is not None, found
    assert texts(bare.plan) == texts(ours)
    assert [d.kept for d in bare.plan.decisions] == [d.kept for d in ours.decisions]


def test_a_plan_without_weights_leaves_rankings_open(
    headless: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    headless.write("s.csv", rows(SCORES))
    assert headless.run("plan", "a.surg", "--table", "s.csv") == 0
    told = capsys.readouterr().out
    assert "not ranked which experts are kept in 1 3" in told
    plan = lockfile.parse(Path("a.plan").read_text(), "a.plan")
    cut = [d for d in plan.decisions if d.text == "4"]
    assert [d.layer for d in cut] == [1, 3]
    assert all(d.artefact and d.kept is None for d in cut)
    assert len({d.artefact for d in cut}) == 2
    assert "kept" not in Path("a.plan").read_text()

    # Another criterion is another block, though neither is known yet.
    headless.write("a.surg", HEADLESS.replace("moe.contribution", "moe.reap"))
    assert headless.run("plan", "a.surg", "--table", "s.csv", "-o", "reap.plan") == 0
    reap = lockfile.parse(Path("reap.plan").read_text(), "reap.plan")
    assert texts(reap) == texts(plan)
    assert not {d.artefact for d in reap.decisions if d.artefact} & {d.artefact for d in cut}

    # Nothing can be made of it, and nothing is left behind.
    shutil.copy("gpt_oss/model.safetensors", "headless")
    assert headless.run("compile", "a.surg", "--plan", "a.plan", "-o", "out") == 1
    told = capsys.readouterr().err
    assert "error[E0801]: the plan does not list what is kept in `layer.01.experts`" in told
    assert headless.run("verify", "a.plan", "gpt_oss", "--parent", "gpt_oss") == 2
    assert "error[E0801]" in capsys.readouterr().err
    assert not Path("out").exists()


def test_lots_are_drawn_without_weights(headless: Workplace) -> None:
    headless.write("a.surg", HEADLESS.replace("moe.contribution", "moe.random"))
    bare, found = planned(headless, rows(SCORES))
    assert bare is not None, found
    assert [len(d.kept) for d in bare.plan.decisions if d.kept] == [4, 4]


def test_a_table_may_list_what_is_kept(headless: Workplace) -> None:
    lists = ('layer.1.experts.4,kept,"0-2,7"', "layer.03.experts.4,kept,2-5")
    bare, found = planned(headless, rows(SCORES, *lists))
    assert bare is not None, found
    assert [d.kept for d in bare.plan.decisions if d.kept] == [(0, 1, 2, 7), (2, 3, 4, 5)]


def test_costs_of_a_table_override_ours(headless: Workplace) -> None:
    free, _ = planned(headless, rows(SCORES))
    assert free is not None
    assert sum(c.text == "4" for c in free.chosen) == 2
    heavy = ("layer.1.experts.4,weights,99999999", "fixed,params,7e3")
    found, _ = planned(headless, rows(SCORES), "address,metric,value\n" + "\n".join(heavy))
    assert found is not None
    assert (1, "experts", "4") not in texts(found.plan)
    assert found.space.fixed.params == 7000
    assert found.space.fixed.weights == free.space.fixed.weights
    assert [name for name, _ in found.plan.tables] == ["t0.csv", "t1.csv"]


def test_rows_may_come_in_any_order_and_spelling(headless: Workplace) -> None:
    first, _ = planned(headless, rows(SCORES))
    lines = [f"damage , {value:e} ,{address}" for address, value in reversed(SCORES.items())]
    text = "\ufeffmetric,value,address\r\n" + "\r\n\r\n".join(lines)
    second, found = planned(headless, text.replace("layer.", "layer.0"))
    assert first is not None
    assert second is not None, found
    assert second.plan.decisions == first.plan.decisions
    assert second.plan.metrics == first.plan.metrics


def test_standard_errors_are_used(headless: Workplace) -> None:
    changed = HEADLESS.replace("require @size", "require @good damage <= 0.061\nrequire @size")
    headless.write("a.surg", changed)
    listed = [f"{address},damage,{value},{value / 8}" for address, value in SCORES.items()]
    plan, found = planned(headless, "address,metric,value,error\n" + "\n".join(listed) + "\n")
    assert plan is not None
    assert [d.code.id for d in found] == ["W0706"]
    assert planned(headless, rows(SCORES))[1] == ()


# ---- refusals --------------------------------------------------------------------------------

WRONG = [
    ("layer.9.experts.4,damage,1", "E0707", "no candidate `layer.9.experts.4`"),
    ("layer.0.experts.5,damage,1", "E0707", "no candidate `layer.0.experts.5`"),
    ("layer.0.experts.8,harm,0", "E0707", "`harm` is neither a score of the spec nor a cost"),
    ("layer.0.experts.6,damage,0.25", "E0707", "is given twice"),
    ("layer.0.experts.8,damage,1e-30", "E0704", "does damage of 1e-30 nats"),
    ("layer.0.experts.8,params,0.5", "E0707", "`params` of `layer.0.experts.8` is 0.5"),
    ("layer.0.experts.8,weights,-1", "E0707", "is -1"),
    ("layer.0.experts.8,damage,-1", "E0707", "is below 0"),
    ("layer.0.experts.8,damage,nan", "E0702", "is not finite"),
    ("layer.0.experts.8,damage,-Infinity", "E0702", "is not finite"),
    ("layer.0.experts.8,damage,1e999", "E0702", "is not finite"),
    ('layer.0.experts.8,damage,"0,5"', "E0707", "`0,5` is no number"),
    ("layer.0.experts.8,damage,", "E0707", "`` is no number"),
    ("layer.0.experts.8,damage,0x10", "E0707", "`0x10` is no number"),
    (f"layer.0.experts.8,damage,{'1' * 5000}", "E0707", "is no number"),
    ("fixed,damage,0.5", "E0707", "which no choice changes"),
    ("fixed,kept,0-3", "E0707", "does not select"),
    ("layer.0.experts.8,kept,0-7", "E0707", "does not select"),
    ("layer.0.experts.4,kept,0-4", "E0707", "does not fit"),
    ("layer.0.experts.4,kept,5-8", "E0707", "does not fit"),
    ('layer.0.experts.4,kept,"3,0-2"', "E0707", "cannot be read"),
    ("layer.0.experts.4,kept,0-99999999999", "E0707", "cannot be read"),
    ("layer.0.experts.8,damage", "E0707", "has 2 fields"),
    ("layer.0.experts.8,damage,0,0.1", "E0707", "has 4 fields"),
    ('layer.0.experts.8,"damage,0', "E0707", "the table is no CSV"),
]


@pytest.mark.parametrize(("row", "code", "message"), WRONG, ids=[row[:48] for row, _, _ in WRONG])
def test_a_row_that_means_nothing(row: str, code: str, message: str, headless: Workplace) -> None:
    plan, (found,) = planned(headless, rows(SCORES, row))
    assert plan is None
    assert found.code.id == code
    assert message in found.message
    assert found.primary is not None
    assert found.primary.span.source.name.endswith("t0.csv")
    assert found.primary.span.first.line == len(SCORES) + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the table is empty"),
        ("\n\n", "the table is empty"),
        ("address;metric;value\n", "has no column `address`"),
        ("address,metric,value,who\n", "has a column `who`"),
        ("address,metric,value,value\n", "has two columns `value`"),
    ],
)
def test_a_header_that_is_none(text: str, message: str, headless: Workplace) -> None:
    plan, (found,) = planned(headless, text)
    assert plan is None
    assert (found.code.id, message in found.message) == ("E0707", True)


def test_mistakes_of_one_kind_are_one_finding(headless: Workplace) -> None:
    more = [f"layer.{n}.experts.4,damage,1" for n in range(40, 60)]
    plan, (found,) = planned(headless, rows(SCORES, *more))
    assert plan is None
    note = next(note for note in found.notes if note.startswith("the same at"))
    assert note.count("t0.csv:") == 5
    assert note.endswith(" and 14 more")


def test_missing_candidates_are_listed(headless: Workplace) -> None:
    some = {a: v for a, v in SCORES.items() if not a.startswith("layer.2")}
    plan, (found,) = planned(headless, rows(some))
    assert plan is None
    assert found.code.id == "E0701"
    assert "`damage` is given for 8 of 10 candidates" in found.message
    assert found.notes == ("missing: `layer.2.experts.6`", "missing: `layer.2.experts.4`")
    # A table that gives no score at all takes none away: they are measured here, or missing here.
    shutil.copy("gpt_oss/tokenizer.json", "headless")
    plan, (found,) = planned(headless, "address,metric,value\n")
    assert plan is None
    assert found.code.id == "E0701"
    assert "no weights" in found.message


def test_files_that_cannot_be_tables(
    headless: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("latin.csv").write_bytes(b"address,metric,value\nlayer.0.experts.4,d\xe4mage,1\n")
    Path("folder.csv").mkdir()
    for name, code in (("nowhere.csv", "E0001"), ("folder.csv", "E0001"), ("latin.csv", "E0002")):
        capsys.readouterr()
        assert headless.run("plan", "a.surg", "--table", name) == 2
        assert f"error[{code}]" in capsys.readouterr().err
    same = headless.write("headless/s.csv", rows(SCORES))
    headless.write("s.csv", "address,metric,value\nfixed,params,1\n")
    assert headless.run("plan", "a.surg", "--table", "s.csv", "--table", same) == 2
    assert "two tables are called `s.csv`" in capsys.readouterr().err


# ---- Parquet ---------------------------------------------------------------------------------


def test_parquet_without_pyarrow_is_one_finding(
    headless: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(table_file, "import_module", refuse)
    Path("s.parquet").write_bytes(b"PAR1")
    assert headless.run("plan", "a.surg", "--table", "s.parquet") == 2
    told = capsys.readouterr().err
    assert "error[E0001]: reading Parquet takes pyarrow" in told
    assert "save the table as CSV" in told


def test_parquet_is_read_like_csv(headless: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns: dict[str, list[object]] = {
        "value": list(SCORES.values()),
        "address": list(SCORES),
        "metric": ["damage"] * len(SCORES),
    }
    parquet.write_table(arrow.table(columns), "s.parquet")
    headless.write("s.csv", rows(SCORES))
    for name in ("s.parquet", "s.csv"):
        assert headless.run("plan", "a.surg", "--table", name, "-o", f"{name}.plan") == 0
    first, second = (
        lockfile.parse(Path(f"{name}.plan").read_text(), name) for name in ("s.parquet", "s.csv")
    )
    assert first.decisions == second.decisions
    columns["metric"][3] = "harm"
    parquet.write_table(arrow.table(columns), "s.parquet")
    capsys.readouterr()
    assert headless.run("plan", "a.surg", "--table", "s.parquet") == 2
    assert "s.parquet, row 4" in capsys.readouterr().err
    Path("s.parquet").write_bytes(b"PAR1 and then nothing")
    assert headless.run("plan", "a.surg", "--table", "s.parquet") == 2
    assert "is no Parquet file" in capsys.readouterr().err
