"""Specs in several files."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_fixtures import BASE, marked

from surgery.diagnostics import Diagnostic, Sink
from surgery.grammar.parse import parse, read_source
from surgery.ir import Spec
from surgery.passes import check

COMMON = """surg 1

import "std/nvidia.surg" as nvidia

machine node = 4 * nvidia.h200_sxm
machine spare = 1 * nvidia.l40s

scenario batch on node { prefill = 1K tok decode = 1K tok batch = 8 }

dataset prose = local("prose.txt") { take = 4 length = 2K tok }

score blur = swap_one(metric: kl(logits), on: prose)

let most = 90%

fn within(s: scenario, part: ratio) -> truth = memory(s) <= part * parent_memory
let parent_memory = 3GiB
"""


def run(folder: Path, **files: str) -> tuple[Spec | None, tuple[Diagnostic, ...]]:
    """Check `main.surg` of some files; `a__b` is the file `a/b.surg`."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".surg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sink = Sink()
    source = read_source(str(folder / "main.surg"), sink)
    assert source is not None
    spec = check.run(parse(source, sink), sink, {})
    return spec, sink.sorted()


def good(folder: Path, **files: str) -> Spec:
    spec, found = run(folder, **files)
    assert found == ()
    assert spec is not None
    return spec


def test_an_imported_judge_is_part_of_the_spec_and_not_of_its_digest(tmp_path: Path) -> None:
    main = BASE + 'import "parts/common.surg" as common\nemit checkpoint "out"'
    plain = good(tmp_path, main=main, parts__common=COMMON)
    judged = good(tmp_path, main=main + " { judge = common.prose }", parts__common=COMMON)
    assert [d.location for d in plain.datasets] == ["text.jsonl"]
    assert sorted(d.location for d in judged.datasets) == ["parts/prose.txt", "text.jsonl"]
    assert judged.digest == plain.digest


def test_names_of_other_files_keep_their_file(tmp_path: Path) -> None:
    main = BASE + (
        'import "parts/common.surg" as common\n'
        "require common.blur <= common.most\n"
        "require common.within(common.batch, 50%)\n"
    )
    spec = good(tmp_path, main=main, parts__common=COMMON)
    assert [each.name for each in spec.scores] == ["damage", "parts.common.blur", "reach"]
    dataset = next(each for each in spec.datasets if each.name == "parts.common.prose")
    assert dataset.location == "parts/prose.txt"
    scenario = next(each for each in spec.scenarios if each.name == "parts.common.batch")
    assert scenario.machine == "parts.common.node"
    # What the spec does not use is not part of it.
    assert [each.name for each in spec.machines] == ["node", "parts.common.node"]


def test_what_a_file_is_called_by_does_not_matter(tmp_path: Path) -> None:
    main = BASE + 'import "common.surg" as first\nrequire first.blur <= first.most\n'
    first = good(tmp_path, main=main, common=COMMON)
    second = good(tmp_path, main=main.replace("first", "other"), common=COMMON)
    assert first.digest == second.digest


def test_imports_of_imports_and_up_again(tmp_path: Path) -> None:
    main = BASE + 'import "a/one.surg" as one\nrequire damage <= one.limit\n'
    one = 'surg 1\nimport "../b/two.surg" as two\nlet limit = two.limit\n'
    good(tmp_path, main=main, a__one=one, b__two="surg 1\nlet limit = 2\n")


@pytest.mark.parametrize("path", ["../x.surg", "/etc/passwd", "a/../../x.surg"])
def test_files_outside_are_refused(tmp_path: Path, path: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "x.surg").write_text("surg 1\nlet a = 1\n", encoding="utf-8")
    _, (found,) = run(inside, main=f'{BASE}import "{path}" as x\nrequire damage <= x.a\n')
    assert (found.code.id, marked(found)) == ("E0001", f'"{path}"')
    assert "outside" in found.message


def test_a_circle_is_told_with_its_route(tmp_path: Path) -> None:
    _, (found,) = run(
        tmp_path,
        main=BASE + 'import "one.surg" as one\nrequire damage <= one.a\n',
        one='surg 1\nimport "two.surg" as two\nlet a = two.b\n',
        two='surg 1\nimport "one.surg" as one\nlet b = 3\n',
    )
    assert found.code.id == "E0203"
    assert "`one.surg` -> `two.surg` -> `one.surg`" in found.message
    assert [label.span.source.name for label in found.labels] == [
        str(tmp_path / "two.surg"),
        str(tmp_path / "one.surg"),
    ]


def test_a_spec_cannot_import_itself(tmp_path: Path) -> None:
    _, (found,) = run(tmp_path, main=BASE + 'import "main.surg" as me\n')
    assert (found.code.id, marked(found)) == ("E0203", '"main.surg"')


def test_a_long_chain_is_refused(tmp_path: Path) -> None:
    files = {f"f{n}": f'surg 1\nimport "f{n + 1}.surg" as f\nlet a = 1\n' for n in range(30)}
    _, found = run(tmp_path, main=BASE + 'import "f0.surg" as f\n', **files)
    assert [each.code.id for each in found] == ["E0203"]
    assert "16 deep" in found[0].message


def test_other_statements_are_refused(tmp_path: Path) -> None:
    other = (
        'surg 1\nlet a = 1\nmodel m = local("x")\ninput n: count = 3\n'
        'choose ffn in layers { keep noop }\nminimize 3\nemit checkpoint "x"\n'
    )
    _, found = run(tmp_path, main=BASE + 'import "other.surg" as other\n', other=other)
    assert [(each.code.id, marked(each)) for each in found] == [
        ("E0210", "model m"),
        ("E0210", "input n"),
        ("E0210", "choose ffn"),
        ("E0210", "minimize"),
        ("E0210", "emit checkpoint"),
    ]


def test_mistakes_in_imported_files_are_found_even_if_unused(tmp_path: Path) -> None:
    other = "surg 1\nlet a = 1 + 2 tok\nfn f(x: count) -> count = y\n"
    _, found = run(tmp_path, main=BASE + 'import "other.surg" as other\n', other=other)
    assert [(each.code.id, marked(each)) for each in found] == [("E0301", "2 tok"), ("E0201", "y")]
    assert {each.labels[0].span.source.name for each in found} == {str(tmp_path / "other.surg")}


def test_a_syntax_error_in_an_imported_file_silences_its_users(tmp_path: Path) -> None:
    main = BASE + 'import "other.surg" as other\nrequire damage <= other.a\n'
    _, found = run(tmp_path, main=main, other="surg 1\nlet a = (3\n")
    assert len(found) == 1
    assert found[0].code.id.startswith("E01")


def test_unreadable_imports(tmp_path: Path) -> None:
    (tmp_path / "latin.surg").write_bytes(b"surg 1\n# \xe9\n")
    main = BASE + 'import "latin.surg" as a\nimport "missing.surg" as b\nlet x = a.y + b.z\n'
    _, found = run(tmp_path, main=main)
    assert [(each.code.id, marked(each)) for each in found] == [
        ("E0002", '"latin.surg"'),
        ("E0001", '"missing.surg"'),
    ]
