"""Completion: what is offered where, with the cursor at `|` in a spec that is being written."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsp_fixtures import SPEC, applied, opened, workplace
from lsprotocol import types

from surgery.checking.blocks import BLOCKS
from surgery.checking.tables import EDITS
from surgery.grammar.scan import STATEMENTS
from surgery.lsp.completion import complete, resolved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workplace(tmp_path_factory.mktemp("completion"))


def items(folder: Path, added: str, spec: str = SPEC) -> list[types.CompletionItem]:
    """What is offered at the `|` of a text behind the spec, best first."""
    text = spec + added
    offset = text.rindex("|")
    text = text[:offset] + text[offset + 1 :]
    workspace, uri = opened(folder, text, "typing.surg")
    before = text[:offset]
    place = types.Position(before.count("\n"), len(before) - before.rfind("\n") - 1)
    found = complete(workspace, uri, place, snippets=True)
    assert found is not None
    return sorted(found.items, key=lambda item: item.sort_text or "")


def offered(folder: Path, added: str, spec: str = SPEC) -> list[str]:
    return [item.label for item in items(folder, added, spec)]


def test_statements_at_column_0(folder: Path) -> None:
    assert offered(folder, "\n|") == list(STATEMENTS[1:])
    assert offered(folder, "\nreq|") == list(STATEMENTS[1:])
    assert offered(folder, "|", spec="")[0] == "surg"
    assert "choose" not in offered(folder, "\n  |")


def test_fields_that_are_missing(folder: Path) -> None:
    assert offered(folder, "\nscenario b on node {\n  |") == [
        "prefill",
        "decode",
        "batch",
        "trace",
        "clients",
        "verbosity",
        "skew",
        "routing",
        "engine",
    ]
    text = "\nscenario b on node {\n  prefill = 1K tok\n  |\n  batch = 1\n}\n"
    assert offered(folder, text) == ["decode", "verbosity", "skew", "routing", "engine"]
    text = '\nscenario b on node {\n  trace = "a.csv"\n  |\n}\n'
    assert offered(folder, text) == ["batch", "clients", "verbosity", "skew", "routing", "engine"]
    assert offered(folder, '\nemit runtime "x" { backend = triton, |') == ["context"]
    assert offered(folder, '\ndataset d = local("text.jsonl") { |')[0] == "take"
    assert offered(folder, '\nmodel p = hf("a/b") { |') == ["revision"]
    assert set(offered(folder, '\nmachine m = device("d") {\n  |')) == {
        rule.name for rule in BLOCKS["device"]
    }
    field = items(folder, "\nscenario b on node {\n  |")[0]
    assert isinstance(field.text_edit, types.TextEdit)
    assert field.text_edit.new_text == "prefill = ${1:4K tok}"
    assert field.detail == "required"


def test_values_of_fields(folder: Path) -> None:
    assert offered(folder, "\nscenario b on node {\n  batch = |")[0] == "fit"
    assert offered(folder, '\nemit checkpoint "x" { judge = |') == ["text"]
    assert offered(folder, '\nemit runtime "x" { backend = |') == ["triton"]
    assert offered(folder, "\napply kv_cache {\n  dtype = |") == ["fp8_e4m3", "bf16"]
    teacher = "\nrecover {\n  distill {\n    teacher = |"
    assert offered(folder, teacher) == ["parent"]
    assert offered(folder, "\nrecover {\n  |") == ["distill", "reinforce", "average"]
    assert offered(folder, "\nrecover {\n  distill {\n    |")[0] == "teacher"


def test_sites_and_edits_of_this_model(folder: Path) -> None:
    sites = ["attention", "experts", "kv_cache", "router", "ffn"]
    assert offered(folder, "\nchoose |")[:5] == sites
    assert offered(folder, "\nchoose attention |") == ["in"]
    assert offered(folder, "\nchoose attention in |") == ["layers"]
    assert offered(folder, "\nchoose attention in layers |") == ["where", "except"]
    block = "\nchoose attention in layers {\n  "
    edits = ["keep", "window", "sink_window", "kv_heads", "noop", "linear"]
    assert offered(folder, block + "|") == edits
    assert "keep" not in offered(folder, block + "|\n  keep\n}")
    assert len(offered(folder, block + "|")) == len(EDITS["attention"]) + 1
    block = "\nchoose kv_cache in layers {\n  "
    assert offered(folder, block + "|") == ["keep", "fp8_e4m3"]
    assert "unit_scales" in offered(folder, block + "fp8_e4m3 by |")
    assert offered(folder, "\nchoose router in layers {\n  active |") == ["1"]


def test_values_that_the_model_can_take(folder: Path) -> None:
    assert offered(folder, "\nchoose attention in layers {\n  kv_heads |") == ["1"]
    experts = offered(folder, "\nchoose experts in layers {\n  keep\n  retain |")
    assert experts == ["7", "6", "5", "4", "3", "2"]
    window = offered(folder, "\nchoose attention in layers {\n  window 64 tok | |")
    assert window[:2] == ["512 tok", "256 tok"]
    dense = SPEC.replace('local("moe")', 'local("dense")')
    ffn = offered(folder, "\nchoose ffn in layers {\n  width |", dense)
    assert ffn == ["96", "64", "32"]


def test_clauses_of_an_alternative(folder: Path) -> None:
    block = "\nchoose experts in layers {\n  keep\n  retain 4 "
    assert offered(folder, block + "|") == ["by", "when"]
    rankings = offered(folder, block + "by |")
    assert "moe.contribution" in rankings[:4]
    assert "channel_contribution" in rankings
    init = "\nchoose attention in layers {\n  kv_heads 1 init |"
    assert offered(folder, init) == ["mean"]
    when = offered(folder, block + "by moe.contribution(text) when |")
    assert when[:2] == ["index", "experts"]


def test_units_by_what_is_wanted(folder: Path) -> None:
    assert offered(folder, "\nrequire @a params <= 88|")[:2] == ["88M params", "88B params"]
    assert offered(folder, "\nrequire @a params <= 88 p|")[0] == "88M params"
    assert offered(folder, "\nrequire @a weights <= 4|")[0] == "4GiB"
    assert offered(folder, "\nrequire @a kv(64|")[:2] == ["64 tok", "64K tok"]
    assert offered(folder, "\nscenario b on node {\n  prefill = 4|")[0] == "4 tok"
    assert offered(folder, "\nchoose attention in layers {\n  window 8|")[0] == "8 tok"
    assert offered(folder, "\nrequire @a weights <= 90|% * parent.weights") != []
    anything = offered(folder, "\nlet a = 8|")
    assert {"8%", "8GiB", "8K tok"} <= set(anything)


def test_a_unit_replaces_the_number(folder: Path) -> None:
    item = items(folder, "\nrequire @a params <= 88 p|")[0]
    assert isinstance(item.text_edit, types.TextEdit)
    text = applied(f"{SPEC}\nrequire @a params <= 88 p", [item.text_edit])
    assert text.endswith("\nrequire @a params <= 88M params")


def test_members(folder: Path) -> None:
    assert "contribution" in offered(folder, "\nlet a = moe.|")
    assert offered(folder, "\nlet a = load.|") == ["part"]
    assert offered(folder, "\nlet a = node.|")[0] == "gpus"
    facts = offered(folder, "\nlet a = parent.he|")
    assert {"heads", "kv_heads", "weights", "kv"} <= set(facts)
    assert "h100_sxm" in offered(folder, "\nmachine m = 2 * nvidia.|")


def test_words_after_is(folder: Path) -> None:
    where = "\nrequire @a count(layers where attention is "
    assert offered(folder, where + "|")[:4] == ["full", "window", "noop", "linear"]
    assert offered(folder, where + "not |") == ["full", "window", "noop", "linear"]


def test_names_by_what_is_wanted(folder: Path) -> None:
    assert offered(folder, "\nrequire @a memory(|") == ["chat"]
    assert offered(folder, "\nrequire @a throughput(|") == ["chat"]
    assert offered(folder, "\nscore s = swap_one(metric: kl(logits), on: |") == ["text"]
    assert offered(folder, "\nscore s = swap_one(metric: |") == ["kl"]
    assert offered(folder, "\nscore s = |") == ["swap_one"]
    assert offered(folder, "\nmodel m = |") == ["local", "hf", "gguf", "wheel"]
    assert offered(folder, "\nscenario b on |") == ["node"]
    assert offered(folder, "\nrequire @a room(|")[0] == "chat"
    assert "ratio" in offered(folder, "\ninput a: |")
    assert "weights" in offered(folder, "\nrequire @a 5GiB >= |")[:2]
    ratio = offered(folder, "\nrequire @a weights <= share * |")
    assert ratio.index("weights") < ratio.index("params")


def test_a_layer_at_hand(folder: Path) -> None:
    where = offered(folder, "\nchoose experts in layers where |")
    assert {"index", "experts", "attention"} <= set(where[:12])
    body = offered(folder, "\nrequire @a every(layers: |")
    assert "index" in body[:3]
    assert "index" not in offered(folder, "\nrequire @a |")


def test_paths(folder: Path) -> None:
    found = offered(folder, '\nimport "|')
    assert found[:2] == ["std/amd.surg", "std/cpu.surg"]
    assert "parts/" in found
    assert offered(folder, '\nimport "parts/|') == [
        *("std/amd.surg", "std/cpu.surg", "std/kv.surg", "std/moe.surg", "std/nvidia.surg"),
        "parts/load.surg",
    ]
    assert "text.jsonl" in offered(folder, '\ndataset d = local("|')
    assert {"moe", "dense"} <= set(offered(folder, '\nmodel p = local("|'))
    assert offered(folder, '\nemit checkpoint "|') == []


def test_a_label_is_a_new_name(folder: Path) -> None:
    assert offered(folder, "\nrequire @|") == []
    assert offered(folder, "\nlet |") == []
    assert "weights" in offered(folder, "\nrequire @a |")


def test_lints_in_a_directive(folder: Path) -> None:
    found = offered(folder, "\n# surg: allow(unused-name, |")
    assert "no-op-window" in found
    assert "undefined-name" not in found
    assert offered(folder, "\n# just a remark |") == []


def test_no_snippets_for_who_has_none(folder: Path) -> None:
    workspace, uri = opened(folder, SPEC + "\n", "plain.surg")
    end = types.Position(SPEC.count("\n") + 1, 0)
    found = complete(workspace, uri, end, snippets=False)
    assert found is not None
    for item in found.items:
        assert isinstance(item.text_edit, types.TextEdit)
        assert "$" not in item.text_edit.new_text
        assert item.insert_text_format is types.InsertTextFormat.PlainText


def test_documentation_when_it_is_asked_for(folder: Path) -> None:
    workspace, uri = opened(folder, SPEC + "\nlet a = load.", "resolve.surg")
    end = types.Position(SPEC.count("\n") + 1, len("let a = load."))
    found = complete(workspace, uri, end, snippets=True)
    assert found is not None
    (item,) = found.items
    assert item.documentation is None
    full = resolved(workspace, item).documentation
    assert isinstance(full, types.MarkupContent)
    assert "Part of the memory that may be used." in full.value
    stranger = types.CompletionItem("x", data=["not", "ours"])
    assert resolved(workspace, stranger) is stranger
