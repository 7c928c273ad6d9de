"""What the check says about mistakes: labels, notes, fixes that repair; wrong `--set`."""

from __future__ import annotations

import pytest
from check_fixtures import BASE, check_text, findings, fixed, good, marked, told

from surgery.diagnostics import Safety


def test_mixed_dimensions_label_both_sides_and_show_ways_out() -> None:
    text = BASE + "require @size params <= 88.5GB\n"
    (found,) = findings(text)
    assert found.message == "cannot compare a count of parameters with a number of bytes"
    assert [(label.span.text, label.text) for label in found.labels] == [
        ("88.5GB", "this is a number of bytes"),
        ("params", "this is a count of parameters"),
    ]
    assert {help.fix.safety for help in found.helps if help.fix} == {Safety.DISPLAY}
    assert fixed(text, found, 0).endswith("params <= 88.5B params\n")
    assert fixed(text, found, 1).endswith("weights <= 88.5GB\n")
    good(fixed(text, found, 0))
    good(fixed(text, found, 1))


@pytest.mark.parametrize(
    ("statement", "repaired"),
    [
        ("require params <= 88B", "require params <= 88B params"),
        ("require kv(1K tok) <= 88B", "require kv(1K tok) <= 88GB"),
        ("require kv(1K tok) <= 1.5", "require kv(1K tok) <= 1.5GiB"),
        ("require latency(chat) <= 3", "require latency(chat) <= 3 s"),
        ("require throughput(chat) >= 3K", "require throughput(chat) >= 3K tok/s"),
        ("require every(layers: window <= 4K)", "require every(layers: window <= 4K tok)"),
        ("require count(layers) <= 8 tok", "require count(layers) <= 8"),
        ("require params <= 92 * parent.params", "require params <= 92% * parent.params"),
        ("require damage < 0.1", "require damage <= 0.1"),
        ("require reech <= 0.1", "require reach <= 0.1"),
        ("require throughput >= 3 tok/s", "require throughput(chat) >= 3 tok/s"),
        ("require count(layers[3..1]) >= 1", "require count(layers[1..3]) >= 1"),
        (
            "require count(layers where ffn is dens) >= 1",
            "require count(layers where ffn is dense) >= 1",
        ),
        ("require damage <= node.gpu", "require damage <= node.gpus"),
        ('emit runtime "x" { context = 128K }', 'emit runtime "x" { context = 128K tok }'),
        ('emit runtime "x" { contxt = 1K tok }', 'emit runtime "x" { context = 1K tok }'),
        ("input part: ratio = 92", "input part: ratio = 92%"),
        ("expect params <= 3B params", "expect parent.params <= 3B params"),
    ],
)
def test_the_first_fix_repairs_the_spec(statement: str, repaired: str) -> None:
    text = f"{BASE}{statement}\n"
    (found,) = findings(text)
    assert fixed(text, found) == f"{BASE}{repaired}\n"
    good(fixed(text, found))


def test_a_missing_field_is_shown_where_it_belongs() -> None:
    text = BASE + "scenario x on node {\n  prefill = 1 tok\n}\n"
    (found,) = findings(text)
    assert found.message == "a `scenario` needs `decode` and `batch`"
    assert fixed(text, found).endswith("prefill = 1 tok\n  decode = 4K tok\n  batch = fit\n}\n")
    bare = BASE + 'dataset d = local("x")\n'
    (found,) = findings(bare)
    good(fixed(bare, found))


def test_similar_names_are_shown_where_they_are_defined() -> None:
    (found,) = findings(BASE + "require reech <= 1\n")
    assert [(label.span.text, label.text) for label in found.labels] == [
        ("reech", "not defined"),
        ("score reach", "a score with a similar name is defined here"),
    ]
    assert found.helps[0].text == "use the score `reach`"


def test_wrong_arguments_show_the_signature() -> None:
    (found,) = findings(BASE + "score s = swap_one(kl(logits))\n")
    assert found.message == "`swap_one` needs `on`"
    assert "swap_one(metric: divergence, on: dataset) -> recipe" in found.notes[0]
    (found,) = findings(BASE + "fn f(x: count) -> count = x\nlet a = f()\n")
    assert "`f(x: count) -> count`" in found.notes[0]


@pytest.mark.parametrize(
    ("site", "edit", "wanted"),
    [
        (
            "ffn",
            "width 8 by moe.contribution(text)",
            "it takes a ranking of channels, such as `channel_contribution(text)`",
        ),
        (
            "experts",
            "retain 8 by channel_contribution(text)",
            "it takes a ranking of experts, such as `contribution` of std/moe.surg",
        ),
        ("ffn", "width 8", "it is written `width <n> by channel_contribution(text)`"),
        ("experts", "retain 8", "it is written `retain <n> by moe.contribution(text)`"),
        ("attention", "window", "it is written `window <n> tok`"),
    ],
)
def test_rankings_are_explained_in_words_of_the_language(site: str, edit: str, wanted: str) -> None:
    (found,) = findings(f"{BASE}choose {site} in layers[1] {{ keep {edit} }}\n")
    assert found.notes == (wanted,)
    if " by " in edit:
        assert found.message.endswith(f"by `{edit.partition(' by ')[2]}`")


@pytest.mark.parametrize(
    ("block", "warned"),
    [
        ("keep", True),
        ("width 96 by channel_contribution(text)", True),
        ("linear", True),
        ("width 96 | 64 by channel_contribution(text)", False),
        ("keep noop", False),
    ],
)
def test_a_lone_alternative_is_legal_and_a_warning(block: str, warned: bool) -> None:
    spec, sink = check_text(f"{BASE}choose ffn in layers {{ {block} }}\n")
    assert spec is not None
    assert [found.code.id for found in sink.found] == ["W0719"] * warned
    if warned:
        assert marked(sink.found[0]) == "choose ffn"
        assert sink.found[0].message == "`choose ffn` has one alternative, so it decides nothing"


def test_a_product_of_scores_suggests_a_sum() -> None:
    text = BASE.replace("damage + 0.5 * reach", "damage * reach")
    (found,) = findings(text)
    assert found.message == "this product is not linear in the choices"
    assert [(label.span.text, label.text) for label in found.labels] == [
        ("*", "product of two choice-dependent values"),
        ("damage", "depends on the choices"),
        ("reach", "depends on the choices"),
    ]
    assert found.helps[0].text == "bound one: `require @reach reach <= 0.020` and `minimize damage`"


# ---- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("shar", "70%", "this spec has no input `shar`"),
        ("share", "70", "`--set share=70`: the input wants a ratio, and 70 is 7000%"),
        ("share", "3 tok", "`--set share=3 tok`: the input cannot be a number of tokens"),
        ("share", "high", "`--set share=high` does not give a value"),
        ("share", "", "`--set share=` does not give a value"),
        ("share", "1\nlet x = 2", "does not give a value"),
        ("share", "1 / 0", "does not give a value"),
    ],
)
def test_wrong_settings(name: str, value: str, says: str) -> None:
    spec, sink = check_text(BASE, {name: value})
    assert spec is None
    (found,) = sink.found
    assert found.code.id == "E0208"
    assert says in found.message
    if name == "share":
        assert marked(found) == "input share"


def test_an_input_without_a_value() -> None:
    text = BASE.replace("ratio = 85%", "ratio")
    assert told(text) == [("E0208", "input share")]
    good(text, {"share": "3%"})
