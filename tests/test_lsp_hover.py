"""Hover, inlay hints, signatures, symbols, folding, tokens and links, asked without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsp_fixtures import SPEC, opened, position, workplace
from lsprotocol import types

from surgery.checking.blocks import BLOCKS
from surgery.diagnostics import Sink
from surgery.grammar.scan import STATEMENTS
from surgery.ir import Decision, Evidence, Plan, Site
from surgery.library import Library
from surgery.lsp import hover, inlay, links, navigate, signature, symbols, tokens
from surgery.lsp.documents import Document
from surgery.lsp.keywords import KEYWORDS
from surgery.lsp.positions import Places
from surgery.lsp.workspace import Workspace
from surgery.plan import text as plan_text
from surgery.scoring import data, identity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workplace(tmp_path_factory.mktemp("hover"))


@pytest.fixture
def spec(folder: Path) -> tuple[Workspace, str]:
    return opened(folder)


def said(spec: tuple[Workspace, str], needle: str, shift: int = 1, text: str = SPEC) -> str:
    found = hover.hover(*spec, position(text, needle, shift))
    assert found is not None
    assert isinstance(found.contents, types.MarkupContent)
    return found.contents.value


# ---- hover -----------------------------------------------------------------------------------


def test_numbers_in_base_units(spec: tuple[Workspace, str], folder: Path) -> None:
    assert "`64K tok` = 65,536 tok" in said(spec, "64K tok")
    assert "`75%` = 0.75" in said(spec, "75%")
    assert "`1M params` = 1,000,000 params = 1.00M" in said(spec, "1M params")
    text = SPEC.replace("64K tok\n", "80GB\nlet more = 46.5GiB\nlet soon = 12.5 ms\n", 1)
    other = opened(folder, text, "sizes.surg")
    assert "`80GB` = 80,000,000,000 bytes = 74.51GiB" in said(other, "80GB", 1, text)
    assert "= 46.50GiB = 49.93GB" in said(other, "46.5GiB", 1, text)
    assert "`12.5 ms` = 0.0125 s" in said(other, "12.5 ms", 1, text)


def test_selectors_say_which_layers(spec: tuple[Workspace, str]) -> None:
    assert said(spec, "in layers where", 4) == "2 of 4 layers: 1, 3"
    assert said(spec, "choose experts in layers", 20) == "all 4 layers"


def test_names_say_what_they_are(spec: tuple[Workspace, str]) -> None:
    share = said(spec, "share *")
    assert "input share: ratio = 75%" in share
    assert "Fraction of the bytes to keep." in share
    assert share.endswith("= 75%")
    assert "scenario chat on node {" in said(spec, "room(chat", 6)
    assert "rank_experts(" in said(spec, "moe.contribution", 6)
    assert "Part of the memory that may be used." in said(spec, "load.part", 6)
    assert "part: ratio" in said(spec, "<= part", 4)
    assert "parameter of `room`" in said(spec, "memory(s)", 7)


def test_built_in_names_and_fields(spec: tuple[Workspace, str]) -> None:
    assert "KL(parent || child) per token" in said(spec, "kl(logits)")
    assert "bytes of the weights as stored" in said(spec, "weights <=")
    assert "bytes of the unmodified model" in said(spec, "parent.weights", 8)
    assert "tokens in" in said(spec, "prefill")
    assert "required" in said(spec, "prefill")
    assert "`retain <n> by" in said(spec, "choose experts", 8)
    assert "the alternatives" not in said(spec, "choose experts", 1)
    assert "exactly one is taken" in said(spec, "choose experts", 1)
    assert "it can be full, window" in said(spec, "attention is full")


def test_expressions_have_a_type_an_affinity_and_a_value(spec: tuple[Workspace, str]) -> None:
    product = said(spec, "share * parent", 6)
    assert "- type: bytes" in product
    assert "constant: the choices do not change it" in product
    assert "- on the parent: " in product
    assert "linear in the choices" in said(spec, "weights <= share", 8)
    assert "- on the parent: false" in said(spec, "weights <= share", 8)


def test_alternatives_say_what_they_save(spec: tuple[Workspace, str]) -> None:
    text = said(spec, "6 | 4", 0)
    assert text.startswith("`6` = 6\n\n4 layers: 0-3\n")
    # Two of eight experts of 3 * 64 * 64 weights, their biases, and two rows of the router.
    assert "- params: -25.09K in a layer, -100.36K in all" in text
    assert "kv@1K: -120.0KiB" not in text
    window = said(spec, "window 64 tok", 8)
    assert "2 layers: 1, 3" in window
    assert "- kv@1K: -240.0KiB in a layer, -480.0KiB in all" in window
    assert "params" not in window


def test_a_measured_alternative_says_its_damage(folder: Path, tmp_path: Path) -> None:
    here = workplace(tmp_path / "measured")
    (here / "moe" / "tokenizer.json").write_text("{}", encoding="utf-8")
    workspace, uri = opened(here)
    analysis = workspace.analysis(uri)
    assert analysis is not None
    assert analysis.spec is not None
    known = workspace.known(analysis)
    assert known is not None
    assert known.space is not None
    dataset = analysis.spec.datasets[0]
    samples = identity.data_key(dataset, data.read_text(dataset, here), known.model)
    library = Library(here / ".surgery" / "library")
    for candidate in known.space.candidates:
        if candidate.edit == "window":
            key = identity.swap_key(known.model, samples, candidate, "kl", None)
            library.put(key, {"mean": 0.25 * candidate.layer, "error": None})
    again = opened(here)
    assert "- damage: 0.25 (layer 1) to 0.75 (layer 3)" in said(again, "window 64 tok", 8)


def test_nothing_to_say(spec: tuple[Workspace, str]) -> None:
    for needle in ("\n\nlet", "## Damage", "= 4\n"):
        assert hover.hover(*spec, position(SPEC, needle, 1)) is None
    assert hover.hover(spec[0], "file:///nowhere.surg", types.Position(0, 0)) is None


def test_every_field_has_words(folder: Path) -> None:
    for kind in ("distill", "reinforce", "average"):
        for rule in BLOCKS[kind]:
            text = f"surg 1\nrecover {{ {kind} {{ {rule.name} = 1 }} }}\n"
            found = said(opened(folder, text, "fields.surg"), f"{rule.name} =", 1, text)
            assert found.startswith(f"`{rule.name}`: {rule.doc}\n\n")
            assert len(found.splitlines()[-1]) > 3


def test_allow_comments_name_lints(folder: Path) -> None:
    text = SPEC.replace("let limit", "# surg: allow(unused-name)\nlet limit")
    found = said(opened(folder, text, "allow.surg"), "unused-name", 3, text)
    assert found == "W0201 `unused-name`: a name is never used"


def test_hover_in_a_spec_with_mistakes(folder: Path) -> None:
    text = SPEC.replace("minimize damage", "minimize damge")
    broken = opened(folder, text, "broken.surg")
    assert said(broken, "in layers where", 4, text) == "2 of 4 layers: 1, 3"
    assert said(broken, "share *", 1, text).endswith("= 75%")


def test_every_statement_has_words() -> None:
    assert tuple(KEYWORDS) == STATEMENTS


# ---- hints -----------------------------------------------------------------------------------


def hints(spec: tuple[Workspace, str]) -> list[tuple[int, str]]:
    analysis = spec[0].analysis(spec[1])
    assert analysis is not None
    found = inlay.inlay_hints(*spec, analysis.document.places.whole())
    return [(hint.position.line, str(hint.label)) for hint in found]


def line(needle: str) -> int:
    return position(SPEC, needle).line


def test_hints_count_layers_and_candidates(spec: tuple[Workspace, str]) -> None:
    assert hints(spec) == [
        (line("choose experts"), "4 layers, 12 candidates"),
        (line("choose attention"), "2 layers, 4 candidates"),
    ]
    only = types.Range(types.Position(0, 0), types.Position(line("choose experts") + 1, 0))
    assert len(inlay.inlay_hints(*spec, only)) == 1


def test_hints_show_the_slack_of_the_last_plan(tmp_path: Path) -> None:
    here = workplace(tmp_path / "planned")
    workspace, uri = opened(here)
    analysis = workspace.analysis(uri)
    assert analysis is not None
    assert analysis.spec is not None
    plan = Plan(
        spec=("spec.surg", analysis.spec.digest),
        parent=("local:moe", "0" * 64),
        library="0" * 64,
        toolchain="surgery-0.1.0",
        decisions=(Decision(0, Site.ATTENTION, "full"),),
        solver=(("status", "optimal"),),
        objective=("minimize damage", "0.1"),
        requirements=(Evidence("@few", "970K", "<=", "1.00M"),),
        metrics=(),
    )
    (here / "spec.plan").write_text(plan_text(plan), encoding="utf-8")
    assert (line("require @few"), "970K, 3% to spare") in hints(opened(here))
    assert "970K <= 1.00M" in said(opened(here), "@few", 2)
    changed = opened(here, SPEC.replace("64 tok", "32 tok"))
    assert not [text for _, text in hints(changed) if "spare" in text]


def test_no_parent_no_hints(tmp_path: Path) -> None:
    assert hints(opened(tmp_path)) == []


# ---- outline ---------------------------------------------------------------------------------


def test_the_outline(spec: tuple[Workspace, str]) -> None:
    found = symbols.document_symbols(*spec)
    assert [each.name for each in found] == [
        *("moe", "nvidia", "load", "parent", "share", "limit", "node", "chat", "text", "damage"),
        *("room", "experts", "attention", "@size", "@room", "@kv", "@few", "minimize damage"),
    ]
    experts = found[11]
    assert [each.name for each in experts.children or ()] == ["keep", "retain 6 | 4"]
    assert experts.detail == "choose, the edits"
    for each in found:
        assert each.range.start <= each.selection_range.start
        assert each.selection_range.end <= each.range.end


def test_blocks_comments_and_sections_fold(folder: Path) -> None:
    text = "surg 1\n\n# ---- one ----\n\n# a\n# b\nscenario a on b {\n  x = 1\n}\n\n"
    text += "# ---- two\nlet a = 1\n"
    found = symbols.folding_ranges(*opened(folder, text, "fold.surg"))
    assert [(each.start_line, each.end_line, each.kind) for each in found] == [
        (2, 8, types.FoldingRangeKind.Region),
        (4, 5, types.FoldingRangeKind.Comment),
        (6, 8, None),
        (10, 11, types.FoldingRangeKind.Region),
    ]
    assert symbols.folding_ranges(*opened(folder, "surg 1\n", "fold.surg")) == []


def test_tokens_are_where_names_are(spec: tuple[Workspace, str]) -> None:
    found = tokens.semantic_tokens(*spec)
    assert found is not None
    rows, seen = SPEC.split("\n"), dict[tuple[int, str], str]()
    at_line = at_column = 0
    for n in range(0, len(found.data), 5):
        down, right, length, kind, _ = found.data[n : n + 5]
        at_line, at_column = at_line + down, right + (0 if down else at_column)
        word = rows[at_line][at_column : at_column + length]
        seen[at_line, word] = tokens.TYPES[kind]
    assert seen[line('import "std/moe'), "moe"] == "namespace"
    assert seen[line("scenario chat"), "node"] == "struct"
    assert seen[line("prefill"), "prefill"] == "property"
    assert seen[line("prefill"), "tok"] == "type"
    assert seen[line("require @size"), "@size"] == "decorator"
    assert seen[line("fn room"), "part"] == "parameter"
    assert seen[line("window 64 tok"), "window"] == "enumMember"


def test_links_lead_to_files(spec: tuple[Workspace, str], folder: Path) -> None:
    found = {each.target: each.range.start.line for each in links.document_links(*spec)}
    assert found[(folder / "text.jsonl").as_uri()] == line('local("text.jsonl')
    assert found[(folder / "parts" / "load.surg").as_uri()] == line("parts/load")
    text = SPEC.replace('local("moe")', 'hf("a/b")')
    targets = [each.target for each in links.document_links(*opened(folder, text, "hub.surg"))]
    assert "https://huggingface.co/a/b" in targets
    (folder / "old.plan").write_text("surgery-plan 1\n", encoding="utf-8")
    near = SPEC + '\nrequire @near distance(local("old.plan")) <= 4 layers\n'
    targets = [each.target for each in links.document_links(*opened(folder, near, "near.surg"))]
    assert (folder / "old.plan").as_uri() in targets


def test_signatures(spec: tuple[Workspace, str]) -> None:
    found = signature.signature_help(*spec, position(SPEC, "room(chat, load", 12))
    assert found is not None
    assert found.signatures[0].label == "room(s: scenario, part: ratio) -> truth"
    assert found.active_parameter == 1
    named = signature.signature_help(*spec, position(SPEC, "on: text)", 5))
    assert named is not None
    assert named.signatures[0].label == "swap_one(metric: divergence, on: dataset) -> recipe"
    assert named.active_parameter == 1
    metric = signature.signature_help(*spec, position(SPEC, "parent.kv(1K", 10))
    assert metric is not None
    assert metric.signatures[0].label == "parent.kv(tok) -> bytes"
    assert signature.signature_help(*spec, position(SPEC, "minimize", 3)) is None


# ---- places ----------------------------------------------------------------------------------


def test_definitions(spec: tuple[Workspace, str], folder: Path) -> None:
    found = navigate.definition(*spec, position(SPEC, "room(chat", 6))
    assert found is not None
    assert found.range.start == position(SPEC, "scenario chat", 9)
    part = navigate.definition(*spec, position(SPEC, "load.part", 6))
    assert part is not None
    assert part.uri == (folder / "parts" / "load.surg").as_uri()
    assert part.range.start == types.Position(5, 4)
    path = navigate.definition(*spec, position(SPEC, '"parts/load', 3))
    assert path is not None
    assert path == types.Location(part.uri, types.Range(types.Position(0, 0), types.Position(0, 0)))


def test_references_and_highlights(spec: tuple[Workspace, str]) -> None:
    where = position(SPEC, "share:", 1)
    found = navigate.references(*spec, where, declaration=True)
    assert [each.range.start.line for each in found] == [line("input share"), line("share *")]
    assert len(navigate.references(*spec, where, declaration=False)) == 1
    marks = navigate.highlights(*spec, where)
    kinds = types.DocumentHighlightKind
    assert [mark.kind for mark in marks] == [kinds.Write, kinds.Read]


def test_references_in_other_files(spec: tuple[Workspace, str], folder: Path) -> None:
    user = folder / "user.surg"
    user.write_text('surg 1\nimport "parts/load.surg" as l\nlet a = l.part\n', encoding="utf-8")
    found = navigate.references(*spec, position(SPEC, "load.part", 6), declaration=True)
    places = [(each.uri.rpartition("/")[2], each.range.start.line) for each in found]
    assert places == [("load.surg", 5), ("spec.surg", line("load.part")), ("user.surg", 2)]
    user.unlink()


def test_open_text_counts_more_than_disk(spec: tuple[Workspace, str], folder: Path) -> None:
    workspace, uri = spec
    part = (folder / "parts" / "load.surg").as_uri()
    workspace.put(Document(part, 1, "surg 1\n\nlet part = 50%\n"))
    assert said(spec, "load.part", 6).endswith("= 50%")
    workspace.drop(part)
    assert said(spec, "load.part", 6).endswith("= 92%")
    analysis = workspace.analysis(uri)
    assert analysis is not None
    assert Places(SPEC).line_count == analysis.document.places.line_count
    assert Sink().found == []
