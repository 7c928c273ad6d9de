"""Every mistake that the check knows: its code, and the exact text that it points at."""

from __future__ import annotations

import pytest
from check_fixtures import BASE, check_text, findings, marked, told
from hypothesis import given, settings
from hypothesis import strategies as st

ADDED = [
    # names
    ("minimize reech", "E0201", "reech"),
    ("require colour <= 3", "E0201", "colour"),
    ("require experts <= 3", "E0201", "experts"),
    ("require attention <= 3", "E0201", "attention"),
    ("require attention is full", "E0201", "attention is full"),
    ("scenario x on nod { prefill = 1 tok decode = 1 tok batch = 1 }", "E0201", "nod"),
    ("input n: coun = 3", "E0201", "coun"),
    ("fn f(x: nmber) -> count = 3", "E0201", "nmber"),
    ("choose atention in layers { keep noop }", "E0201", "atention"),
    ("choose ffn in layers { keep nop }", "E0201", "nop"),
    ("apply kvcache { dtype = bf16 }", "E0201", "kvcache"),
    ('emit chekpoint "x"', "E0201", "chekpoint"),
    ("recover { average { of = [deep] } }", "E0201", "deep"),
    ("recover { distil { } }", "E0201", "distil"),
    ('let r = rank_experts("router_contributon", text)', "E0201", '"router_contributon"'),
    ("let node = 3", "E0202", "node"),
    ("let width = 3", "E0202", "width"),
    ("let throughput = 3", "E0202", "throughput"),
    ("fn f(x: count, x: count) -> count = 3", "E0202", "x"),
    ("fn f(index: count) -> count = 3", "E0202", "index"),
    ("choose ffn in layers { keep noop noop }", "E0202", "noop"),
    ("choose attention in layers[1] { keep window 2K tok | 2048 tok }", "E0202", "2048 tok"),
    ('dataset d = local("x") { take = 1 take = 2 length = 1 tok }', "E0202", "take"),
    ("fn f(x: count) -> count = f(x)", "E0204", "f"),
    ("let a = a + 1", "E0204", "a"),
    ("machine m = 2 * m", "E0204", "m"),
    ("machine m = 2 * nvidia.h100_smx", "E0205", "h100_smx"),
    ("require params <= parent.parms", "E0205", "parms"),
    ("require params <= parent.parms(chat)", "E0205", "parms"),
    ("require damage <= node.gpu", "E0205", "gpu"),
    ("require damage <= text.take", "E0205", "take"),
    ("let r = moe.contributon(text)", "E0205", "contributon"),
    ("scenario x on node { prefil = 1 tok decode = 1 tok batch = 1 }", "E0206", "prefil"),
    ('emit checkpoint "x" { shards = 5GB }', "E0206", "shards"),
    ("apply router { active = 3 colour = 3 }", "E0206", "colour"),
    ("scenario x on node { prefill = 1 tok batch = 1 }", "E0207", "scenario x"),
    ('machine m = device("x") { memory = 3GB }', "E0207", "machine m"),
    ("apply kv_cache { }", "E0207", "apply kv_cache"),
    ("recover { distill deep { teacher = parent } }", "E0207", "distill deep"),
    ('model other = local("x")', "E0209", "model other"),
    # types and units
    ("require params <= 88.5GB", "E0301", "88.5GB"),
    ("require params <= 88B", "E0301", "88B"),
    ("require 88B >= params", "E0301", "88B"),
    ("require parent.weights <= params", "E0301", "params"),
    ("require damage + 3 tok <= 1", "E0301", "3 tok"),
    ("require kv(1K tok) % 3 <= 1GB", "E0301", "3"),
    ("require every(layers: window <= 128)", "E0301", "128"),
    ("require max(3, 4 tok) <= 1", "E0301", "4 tok"),
    ("let a = if 1 <= 2 then 3 else 4 tok", "E0301", "4 tok"),
    ('emit runtime "x" { context = 128K }', "E0302", "128K"),
    ('emit runtime "x" { backend = cuda }', "E0302", "cuda"),
    ("scenario x on node { prefill = 4 decode = 1 tok batch = 1 }", "E0302", "4"),
    ("scenario x on text { prefill = 4 tok decode = 1 tok batch = 1 }", "E0302", "text"),
    ("scenario x on node { prefill = 4 tok decode = 1 tok batch = 80% }", "E0302", "80%"),
    ("choose attention in layers[1] { keep window 32 }", "E0302", "32"),
    (
        "choose ffn in layers { keep width 8 by moe.contribution(text) }",
        "E0302",
        "moe.contribution(text)",
    ),
    ("choose ffn in layers { keep width 8 by damage }", "E0302", "damage"),
    ("choose attention in layers[1] { keep kv_heads 1 init text }", "E0302", "text"),
    ("require damage + text <= 1", "E0302", "text"),
    ("require damage + (1 <= 2) <= 1", "E0302", "1 <= 2"),
    ("require throughput(node) >= 3 tok/s", "E0302", "node"),
    ("require ends[1] <= 3", "E0302", "ends[1]"),
    ("require count(layers[text]) >= 3", "E0302", "text"),
    ("require count(layers[parent.layers]) >= 3", "E0302", "parent.layers"),
    ("require count(layers[1..2 tok]) >= 3", "E0302", "2 tok"),
    ("machine m = 3", "E0302", "3"),
    ('score s = local("x")', "E0302", 'local("x")'),
    ('dataset d = gguf("x") { take = 1 length = 1 tok }', "E0302", 'gguf("x")'),
    ("fn f(s: scenario) -> ratio = throughput(s)", "E0302", "throughput(s)"),
    ("recover { average { of = 3 } }", "E0302", "3"),
    ("input n: count = 3 tok", "E0302", "3 tok"),
    ("score s = swap_one(kl(logits))", "E0303", "swap_one(kl(logits))"),
    ("score s = swap_one(kl(logits), text, 3)", "E0303", "3"),
    ("score s = swap_one(metrik: kl(logits), on: text)", "E0303", "metrik"),
    ("score s = swap_one(kl(logits), metric: kl(logits))", "E0303", "metric"),
    ("require params(chat) <= 3 params", "E0303", "chat"),
    ("require parent.kv <= 3GiB", "E0303", "kv"),
    ("require kv <= 3GiB", "E0302", "kv"),
    ("require node(3) <= 3", "E0303", "node"),
    ("let m = swap_one", "E0303", "swap_one"),
    ("require sum(layers) <= 3", "E0303", "sum(layers)"),
    ("choose ffn in layers { keep noop 3 }", "E0303", "3"),
    ("choose ffn in layers { keep width 8 }", "E0303", "width"),
    ("choose attention in layers[1] { keep window }", "E0303", "window"),
    (
        "choose attention in layers[1] { keep noop by moe.contribution(text) }",
        "E0303",
        "moe.contribution(text)",
    ),
    ("choose attention in layers[1] { keep noop init mean }", "E0303", "mean"),
    ("require params", "E0304", "params"),
    ("require every(layers: experts)", "E0304", "experts"),
    ("require count(layers where index) >= 1", "E0304", "index"),
    ("require not damage", "E0304", "damage"),
    ("require 1 <= 2 and damage", "E0304", "damage"),
    ("expect 3", "E0304", "3"),
    ("choose ffn in layers { keep noop when index }", "E0304", "index"),
    ("require count(layers where attention is ful) >= 1", "E0305", "ful"),
    ("require count(layers where attention is moe) >= 1", "E0305", "moe"),
    ("require count(layers where damage is full) >= 1", "E0305", "damage"),
    ("input part: ratio = 92", "E0306", "92"),
    ("require params <= 92 * parent.params", "E0306", "92"),
    ("require memory(chat) <= node.memory * 92", "E0306", "92"),
    ("choose ffn in layers[11..0] { keep noop }", "E0307", "11..0"),
    ("require 3 / (2 - 2) <= 3", "E0308", "2 - 2"),
    ("require 3 % 0 <= 3", "E0308", "0"),
    ("scenario x on node { prefill = 0 tok decode = 1 tok batch = 1 }", "E0309", "0 tok"),
    ("scenario x on node { prefill = 0.5 tok decode = 1 tok batch = 1 }", "E0309", "0.5 tok"),
    (
        "scenario x on node { prefill = 1 tok decode = 1 tok batch = parent.layers }",
        "E0309",
        "parent.layers",
    ),
    ("choose ffn in layers { keep width 12.5 by channel_contribution(text) }", "E0309", "12.5"),
    ("choose attention in layers[1] { keep window 0 tok }", "E0309", "0 tok"),
    ("score s = swap_one(kl(logits), text) { tail = 9K tok }", "E0309", "9K tok"),
    ("machine m = 1.5 * node", "E0309", "1.5"),
    ("machine m = 1 * node { tensor_parallel = 3 }", "E0309", "3"),
    ("machine m = 1 * node { expert_parallel = 3 }", "E0309", "3"),
    ("require count(layers[-1]) >= 1", "E0309", "-1"),
    ("require count(layers[last(0)]) >= 1", "E0309", "0"),
    ('emit checkpoint ""', "E0309", '""'),
    ('dataset d = local(" ") { take = 1 length = 1 tok }', "E0309", '" "'),
    # requirements
    ("require damage * reach <= 3", "E0502", "*"),
    ("require damage / (damage / reach) <= 3", "E0502", "/"),
    ("require damage % 2 <= 3", "E0502", "%"),
    ("require damage <= 1 or reach <= 1", "E0502", "or"),
    ("require not (damage <= 1 and reach <= 1)", "E0502", "and"),
    (
        "require throughput(chat) >= throughput(long)",
        "E0502",
        "throughput(chat) >= throughput(long)",
    ),
    ("require (if damage <= 1 then 1 else 2) <= 1", "E0502", "if damage <= 1 then 1 else 2"),
    ("require min(layers: experts) + 1 >= 3", "E0502", "min(layers: experts)"),
    ("require count(layers where params <= 3 params) >= 1", "E0502", "params"),
    ("require params != 3 params", "E0502", "params != 3 params"),
    ("maximize damage", "E0504", "maximize"),
    ("minimize 1", "E0509", "1"),
    ("minimize parent.params", "E0509", "parent.params"),
    ("minimize count(layers[0..3])", "E0509", "count(layers[0..3])"),
    ("require damage < 0.1", "E0505", "<"),
    ("require 0.1 > damage + reach", "E0505", ">"),
    ("require damage != 0.1", "E0502", "damage != 0.1"),
    ("require latency(chat) < 3 s", "E0505", "<"),
    ("require throughput >= 3 tok/s", "E0507", "throughput"),
    ("require parent.throughput <= 3 tok/s", "E0507", "throughput"),
    ("require throughput() >= 3 tok/s", "E0507", "throughput()"),
    ("expect params <= 3 params", "E0508", "params"),
    ("expect damage <= 3", "E0508", "damage"),
]


@pytest.mark.parametrize(("statement", "code", "at"), ADDED)
def test_one_mistake_is_one_located_message(statement: str, code: str, at: str) -> None:
    text = BASE if not statement.startswith("minimize") else BASE.split("minimize")[0]
    (found,) = findings(f"{text}{statement}\n")
    assert (found.code.id, marked(found)) == (code, at)
    assert found.message[0] in "`abcdefghijklmnopqrstuvwxyz0123456789"
    assert not found.message.endswith(".")
    assert sum(label.primary for label in found.labels) == 1


SWAPPED = [
    ('"std/moe.surg"', '"std/more.surg"', "E0001", '"std/more.surg"'),
    ('"std/moe.surg"', '"../moe.surg"', "E0001", '"../moe.surg"'),
    ('"std/moe.surg"', '"moe.surg"', "E0001", '"moe.surg"'),
    ('local("parent")', "swap_one(kl(logits), text)", "E0302", "swap_one(kl(logits), text)"),
    ('local("parent")', 'local("parent") { revision = "x" }', "E0206", "revision"),
    ('local("parent")', 'local("")', "E0309", '""'),
    ('local("parent")', 'gguf("")', "E0309", '""'),
    ('local("parent")', 'hf("a/b/c")', "E0309", '"a/b/c"'),
    ('local("parent")', 'wheel("llm>=1", file: "x")', "E0309", '"llm>=1"'),
    ('local("parent")', 'gguf("x") { sha256 = "b179" }', "E0309", '"b179"'),
    ("85%", "85", "E0306", "85"),
    ("minimize damage + 0.5 * reach", "minimize damage * reach", "E0502", "*"),
    ("minimize damage + 0.5 * reach", "minimize throughput(chat)", "E0502", "throughput(chat)"),
    ("minimize damage + 0.5 * reach", "minimize damage <= 3", "E0302", "damage <= 3"),
    ("minimize damage + 0.5 * reach", "", "E0504", "surg 1"),
]


@pytest.mark.parametrize(("old", "new", "code", "at"), SWAPPED)
def test_a_broken_base_is_one_located_message(old: str, new: str, code: str, at: str) -> None:
    assert BASE.count(old) == 1
    assert told(BASE.replace(old, new)) == [(code, at)]


def test_a_spec_without_a_model() -> None:
    text = BASE.replace('model parent = local("parent")\n', "")
    assert told(text) == [("E0209", "surg 1")]


# ---- several at once, and silence ------------------------------------------------------------


def test_several_mistakes_are_several_messages() -> None:
    text = BASE + (
        "require params <= 88.5GB\n"
        "require @x reech <= 1\n"
        "choose ffn in layers { keep nop }\n"
        "scenario x on node { prefil = 1 tok decode = 1 tok batch = 1 }\n"
    )
    assert told(text) == [
        ("E0301", "88.5GB"),
        ("E0201", "reech"),
        ("E0201", "nop"),
        ("E0206", "prefil"),
    ]


def test_what_depends_on_a_mistake_is_silent() -> None:
    text = BASE.replace('local("text.jsonl")', 'local("text.jsonl", 3)')
    text += "require reach <= 1\nlet r = moe.contribution(text)\n"
    assert told(text) == [("E0303", "3")]


def test_what_depends_on_a_syntax_error_is_silent() -> None:
    text = BASE.replace("take   = 4", "take     4").replace("minimize damage", "minimize (damage")
    spec, sink = check_text(text + "require damage + lost <= 1\n")
    assert spec is None
    codes = [found.code.id for found in sink.sorted()]
    assert codes[0] == "E0101"
    assert [marked(found) for found in sink.sorted() if found.code.id >= "E02"] == ["lost"]


def test_a_mistake_in_a_function_is_told_once_however_often_it_is_called() -> None:
    calls = "".join(f"require f(chat) <= {n}\n" for n in range(1, 4))
    text = f"{BASE}fn f(s: scenario) -> ratio = throughput(s) / reech\n{calls}"
    assert told(text) == [("E0201", "reech")]


def test_functions_that_need_each_other_are_one_message() -> None:
    text = BASE + "fn f(x: count) -> count = g(x)\nfn g(x: count) -> count = f(x)\nlet a = f(1)\n"
    (found,) = findings(text)
    assert (found.code.id, marked(found)) == ("E0204", "f")
    assert "`g`, which needs `f`" in found.message


def test_definitions_that_explode_are_refused() -> None:
    lets = "let x0 = params\n" + "".join(f"let x{n} = x{n - 1} + x{n - 1}\n" for n in range(1, 40))
    (found,) = findings(f"{BASE}{lets}")
    assert found.code.id == "E0110"
    powers = "let y0 = 99999999999\n" + "".join(
        f"let y{n} = y{n - 1} * y{n - 1}\n" for n in range(1, 30)
    )
    assert [code for code, _ in told(f"{BASE}{powers}")] == ["E0110"]


# ---- nothing makes it crash ------------------------------------------------------------------

_WORDS = BASE.replace("{", " { ").replace("(", " ( ").replace(")", " ) ").split(" ")
_STRAY = ["layers", "3", "3 tok", "<=", "(", ")", "*", "parent", "text", "is", "full", "node", "."]


@settings(max_examples=60, deadline=None)
@given(
    at=st.integers(0, len(_WORDS) - 1),
    cut=st.integers(0, 3),
    stray=st.lists(st.sampled_from(_STRAY), max_size=3),
)
def test_a_damaged_spec_is_checked_or_refused(at: int, cut: int, stray: list[str]) -> None:
    words = [*_WORDS[:at], *stray, *_WORDS[at + cut :]]
    spec, sink = check_text(" ".join(words))
    assert (spec is None) == sink.failed
