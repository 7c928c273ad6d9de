"""Facets: what `kv_cache` and `router` make of the alternatives of a site."""

from __future__ import annotations

from fractions import Fraction

import pytest
from check_fixtures import BASE, check_text, good
from msgspec.structs import replace
from space_fixtures import (
    KEEP,
    alternative,
    choose,
    compare,
    fact,
    gpt_oss,
    is_test,
    layers,
    num,
    smollm,
    span,
    spec,
)

from surgery import catalog, edits, evaluate, paging, sizes
from surgery.diagnostics import Sink
from surgery.expr import Expr, ScoreTotal, Selector
from surgery.ir import (
    Alternative,
    Attention,
    Candidate,
    Dataset,
    Experts,
    Facet,
    FacetKind,
    Layer,
    Model,
    Ranking,
    Scales,
    Score,
    Site,
    Space,
    Spec,
)
from surgery.library import digest
from surgery.ops import Constant
from surgery.passes import cost, expand
from surgery.scoring import blind, identity

ATTENTION, EXPERTS = Site.ATTENTION, Site.EXPERTS
KV_CACHE, ROUTER = FacetKind.KV_CACHE, FacetKind.ROUTER


def fp8(line: int = 50, when: Expr | None = None) -> Alternative:
    by = Ranking(span(), "max", "text")
    return Alternative(span(line), "fp8_e4m3", by=by, when=when, clause=span(line))


def active(value: int, line: int = 60, when: Expr | None = None) -> Alternative:
    return Alternative(span(line), "active", Fraction(value), when=when, clause=span(line))


def facet(
    kind: FacetKind, selector: Selector | None, *alternatives: Alternative, line: int = 70
) -> Facet:
    return Facet(span(line), kind, selector, alternatives)


def expanded(made: Spec, model: Model | None = None) -> Space:
    sink = Sink()
    space = expand.run(made, model or gpt_oss(), sink)
    assert sink.found == [], sink.found
    assert space is not None
    return space


def found(made: Spec, model: Model | None = None) -> list[tuple[str, str]]:
    sink = Sink()
    expand.run(made, model or gpt_oss(), sink)
    return [(each.code.id, each.message) for each in sink.found]


def texts(space: Space, layer: int, site: Site) -> list[str]:
    return [c.text for c in at(space, layer, site)]


def at(space: Space, layer: int, site: Site) -> tuple[Candidate, ...]:
    (option,) = (o for o in space.options if (o.layer, o.site) == (layer, site))
    return option.candidates


WINDOWS = choose(
    ATTENTION,
    layers(where=is_test("attention", "full")),
    KEEP,
    alternative("window", 8192, line=5),
    alternative("kv_heads", 2, line=6),
    alternative("noop", line=7),
)


# ---- products --------------------------------------------------------------------------------


def test_a_cache_in_fp8_multiplies_the_alternatives_of_attention() -> None:
    made = replace(spec(WINDOWS), facets=(facet(KV_CACHE, layers(), KEEP, fp8()),))
    space = expanded(made)
    assert texts(space, 1, ATTENTION) == [
        "full",
        "full+fp8",
        "window(8K)",
        "window(8K)+fp8",
        "kv_heads(2)",
        "kv_heads(2)+fp8",
        "noop",
    ]
    # A parent's window whose only change is its cache.
    assert texts(space, 0, ATTENTION) == ["window(128)", "window(128)+fp8"]
    assert texts(space, 0, EXPERTS) == ["128"]
    for c in space.candidates:
        assert c.address == f"layer.{c.layer}.{c.site}.{c.text}"
        assert c.changed is (c.text not in ("full", "window(128)", "128"))
        stored = isinstance(c.block, Attention) and c.block.kv_dtype == "fp8_e4m3"
        assert stored is c.text.endswith("+fp8") is (c.facet is not None) is edits.scaled(c)


def test_bytes_of_the_cache_halve_exactly_and_windows_clamp_as_before() -> None:
    made = replace(spec(WINDOWS), facets=(facet(KV_CACHE, layers(), KEEP, fp8()),))
    by_text = {c.text: c.cost for c in at(expanded(made), 1, ATTENTION)}
    assert by_text["full+fp8"].kv_per_token == 1024  # method.md: 2048 B in BF16
    for tokens in (1, 127, 8192, 131072):
        for text in ("full", "window(8K)", "kv_heads(2)"):
            both = by_text[text].kv_bytes(tokens), by_text[f"{text}+fp8"].kv_bytes(tokens)
            assert both[0] == 2 * both[1] > 0
    assert by_text["window(8K)+fp8"].kv_bytes(131072) == 1024 * 8192
    for text in ("full", "window(8K)"):
        assert by_text[f"{text}+fp8"].params == by_text[text].params
        assert by_text[f"{text}+fp8"].weights == by_text[text].weights + 8


def test_apply_leaves_no_alternative_without_it() -> None:
    for selector in (None, layers()):
        made = replace(spec(WINDOWS), facets=(facet(KV_CACHE, selector, fp8()),))
        space = expanded(made)
        assert texts(space, 1, ATTENTION) == [
            "full+fp8",
            "window(8K)+fp8",
            "kv_heads(2)+fp8",
            "noop",
        ]
        assert texts(space, 0, ATTENTION) == ["window(128)+fp8"]
    # The parent's own is no edit, whatever is applied.
    kept = replace(spec(WINDOWS), facets=(facet(KV_CACHE, None, KEEP),))
    assert expanded(kept) == expanded(spec(WINDOWS))


def test_selections_of_a_choice_and_of_a_facet_may_differ() -> None:
    made = replace(
        spec(choose(ATTENTION, layers((1, 3)), KEEP, alternative("noop", line=7))),
        facets=(facet(KV_CACHE, layers((3, 4)), KEEP, fp8()),),
    )
    space = expanded(made)
    assert texts(space, 1, ATTENTION) == ["full", "noop"]
    assert texts(space, 3, ATTENTION) == ["full", "full+fp8", "noop"]
    assert texts(space, 4, ATTENTION) == ["window(128)", "window(128)+fp8"]
    assert texts(space, 5, ATTENTION) == ["full"]


def test_conditions_hold_per_layer() -> None:
    late = compare(fact("index"), ">=", num(30))
    made = replace(spec(WINDOWS), facets=(facet(KV_CACHE, layers(), KEEP, fp8(when=late)),))
    space = expanded(made)
    assert texts(space, 29, ATTENTION) == ["full", "window(8K)", "kv_heads(2)", "noop"]
    assert "window(8K)+fp8" in texts(space, 31, ATTENTION)


# ---- the router ------------------------------------------------------------------------------

RETAIN = choose(
    EXPERTS,
    layers(),
    KEEP,
    alternative("retain", 64, line=5),
    alternative("retain", 3, line=6),
)


def test_a_router_multiplies_the_alternatives_of_experts_where_they_are_legal() -> None:
    options = (KEEP, active(6), active(3), active(2, line=61))
    made = replace(spec(RETAIN), facets=(facet(ROUTER, layers(), *options),))
    space = expanded(made)
    assert texts(space, 0, EXPERTS) == [
        *("128", "128+top6", "128+top3", "128+top2"),
        *("64", "64+top6", "64+top3", "64+top2"),
        *("3+top3", "3+top2"),
    ]
    by_text = {c.text: c for c in at(space, 0, EXPERTS)}
    for text, candidate in by_text.items():
        base = by_text.get(edits.base_text(text))
        # Nothing is stored otherwise; who works out times looks at the block.
        assert base is None or replace(candidate.cost, block=None) == replace(base.cost, block=None)
        block = candidate.block
        assert isinstance(block, Experts)
        told = int(text.partition("+top")[2] or 4)
        assert (block.active, block.width) == (told, 2880)
    # `128+top3` alone does not say of how many, so the list does.
    assert by_text["128+top3"].kept == tuple(range(128))
    assert by_text["64+top3"].kept is by_text["128"].kept is None
    assert len({c.artefact for c in by_text.values() if c.artefact}) == 3


def test_too_few_experts_are_too_few_in_every_combination() -> None:
    made = replace(spec(RETAIN), facets=(facet(ROUTER, None, active(8)),))
    assert found(made) == [("E0406", "`retain 3` keeps fewer experts than the router activates")]
    # Of several, the way out is the smallest number that any of them allows.
    sink = Sink()
    facets = (facet(ROUTER, layers(), active(8), active(5)),)
    expand.run(replace(spec(RETAIN), facets=facets), gpt_oss(), sink)
    (only,) = sink.found
    assert "each token is sent to 5" in only.labels[0].text
    many = replace(spec(), facets=(facet(ROUTER, layers(), KEEP, active(129)),))
    assert found(many) == [
        ("E0406", "`active 129` sends each token to more experts than the layer has")
    ]


# ---- findings --------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [layers((3, 3)), None])
def test_two_facets_of_a_layer_are_one_too_many(second: Selector | None) -> None:
    both = (facet(KV_CACHE, layers((1, 3)), KEEP, fp8()), facet(KV_CACHE, second, fp8(), line=71))
    shared = "layer 3" if second else "layers 1-3"
    told = [("E0404", f"two choices for `kv_cache` share {shared}")]
    assert found(replace(spec(), facets=both)) == told
    # Another facet is another matter.
    apart = (both[0], facet(ROUTER, layers((1, 3)), KEEP, active(3)))
    assert found(replace(spec(), facets=apart)) == []


def test_facets_need_their_site() -> None:
    for selector in (None, layers()):
        made = replace(spec(), facets=(facet(ROUTER, selector, active(3)),))
        assert found(made, smollm()) == [("E0403", "the model `parent` has no experts")]


def test_what_changes_nothing_or_applies_nowhere_is_told() -> None:
    same = replace(spec(), facets=(facet(ROUTER, layers(), KEEP, active(4)),))
    assert found(same) == [("W0707", "`active 4` changes nothing")]
    applied = replace(spec(), facets=(replace(facet(ROUTER, None, active(4)), applied=True),))
    assert texts(expanded(applied), 0, EXPERTS) == ["128"]
    never = compare(fact("index"), ">", num(99))
    off = replace(spec(), facets=(facet(KV_CACHE, layers(), KEEP, fp8(when=never)),))
    assert [code for code, _ in found(off)] == ["W0701"]
    bare = replace(spec(), facets=(facet(KV_CACHE, layers((0, 1)), fp8(when=never)),))
    assert ("E0602", "layers 0-1 have no alternative left for `kv_cache`") in found(bare)


def test_combinations_count() -> None:
    many = tuple(alternative("window", n + 1, line=5) for n in range(3000))
    made = spec(choose(ATTENTION, layers((1, 1)), *many))
    assert found(made) == []
    doubled = replace(made, facets=(facet(KV_CACHE, layers(), KEEP, fp8()),))
    assert found(doubled) == [("E0414", "6000 alternatives for one site are more than 4096")]


def test_a_window_that_no_score_sees_is_told_in_fp8_too() -> None:
    text = Dataset(span(10), "text", "local", "t.jsonl", 1, 4096, 0)
    made = replace(spec(WINDOWS), facets=(facet(KV_CACHE, None, fp8()),))
    made = replace(made, datasets=(text,), scores=(Score(span(11), "damage", "kl", "text"),))
    goal = replace(made.objective, expr=ScoreTotal(span(), "damage"))
    made = replace(made, objective=goal)
    space = expanded(made)
    assert [each.code.id for each in blind.findings(made, space)] == ["E0705"]
    (candidate,) = (c for c in at(space, 1, ATTENTION) if c.text == "window(8K)+fp8")
    assert blind.sees(text, candidate), "what FP8 does, it does on any text"


# ---- identity and tensors --------------------------------------------------------------------


def test_scales_are_tensors_beside_the_projections() -> None:
    made = replace(spec(WINDOWS), facets=(facet(KV_CACHE, layers(), KEEP, fp8()),))
    model, space = gpt_oss(), expanded(made)
    (candidate,) = (c for c in at(space, 1, ATTENTION) if c.text == "window(8K)+fp8")
    assert candidate.artefact == ""
    assert edits.missing(candidate) == "has no scales yet"
    with pytest.raises(ValueError, match="scales"):
        edits.outputs(model, candidate)
    scaled = edits.calibrated(model, candidate, Scales(0.5, 0.25))
    outputs = {output.name: output for output in edits.child_outputs(model, (scaled,))}
    assert list(outputs) == sorted(outputs)
    assert len(outputs) == len(model.tensors) + 2
    for name, value in (("k", 0.5), ("v", 0.25)):
        made_of = outputs[f"model.layers.1.self_attn.{name}_scale"]
        assert (made_of.op, made_of.dtype, made_of.shape) == (
            Constant(value, "max of text"),
            "F32",
            (),
        )
    total = cost.chosen_costs(space, (scaled,))
    others = [c.cost for o in space.options if (o.layer, o.site) != (1, ATTENTION)
              for c in o.candidates[:1]]  # fmt: skip
    assert sum(o.nbytes for o in outputs.values()) == sizes.weights((*total, *others))
    with pytest.raises(ValueError, match="scales"):
        edits.calibrated(model, candidate, Scales(0.0, 1.0))


def test_the_hash_of_a_block_covers_its_facet_and_scales() -> None:
    made = replace(spec(WINDOWS), facets=(facet(KV_CACHE, layers(), KEEP, fp8()),))
    model = gpt_oss()
    plain = {c.text: c for c in at(expanded(made), 1, ATTENTION)}
    hashes = [plain["window(8K)"].artefact]
    for scales in (Scales(0.5, 0.25), Scales(0.25, 0.5), Scales(0.5, 0.5)):
        hashes.append(edits.calibrated(model, plain["window(8K)+fp8"], scales).artefact)
        hashes.append(edits.calibrated(model, plain["full+fp8"], scales).artefact)
    hashes.append(edits.unranked(model, plain["full+fp8"]).artefact)
    assert all(len(each) == 64 for each in hashes)
    assert len(set(hashes)) == len(hashes)


GOLDEN = {
    "layer.1.attention.window(8K)": "508b8397a669ddd57b7d81a2d1eddd63",
    "layer.1.attention.noop": "cbc43aac32467878128bc9da7aa8fd87",
    "layer.1.attention.kv_heads(2)": "d8b37f51f9a12a2f997a4703799b2ebb",
    "layer.3.experts.64": "98328a5d3eb12ee4ed58161f7db24099",
}


def test_nothing_moves_where_there_is_no_facet() -> None:
    # What plans and libraries were written with before there were facets.
    model, space = gpt_oss(), expanded(spec(WINDOWS, RETAIN_64))
    by_address = {c.address: c for c in space.candidates}
    kept = edits.ranked(model, by_address["layer.3.experts.64"], tuple(range(64)))
    made = by_address | {kept.address: kept}
    assert {address: made[address].artefact[:32] for address in GOLDEN} == GOLDEN
    key = identity.swap_key(model, {"text": "x"}, kept, "kl", None)
    assert digest(key) == "980052e416e642f1364d22cc206be43650d898ede16305501456f49e570b1f53"
    # A spec that says nothing new is the spec that it was (but for the power of its machine).
    told = good(BASE).digest
    assert told == "f440d7e9d249b3bd0d5319305ac3557c93962e21ea6f75f5a90f7bb364bf293e"
    assert told != good(BASE + "apply router { active = 2 }\n").digest


RETAIN_64 = choose(EXPERTS, layers(), KEEP, alternative("retain", 64, line=4))


# ---- facts and pages -------------------------------------------------------------------------


def test_layers_can_be_asked_for_their_cache() -> None:
    made = replace(spec(WINDOWS), facets=(facet(KV_CACHE, layers((1, 4)), KEEP, fp8()),))
    space = expanded(made)
    chosen: list[Candidate] = []
    for option in space.options:
        last = [c for c in option.candidates if c.text.endswith("+fp8") or c.text == "128"]
        chosen.append(last[0] if last else option.candidates[0])
    child = edits.child_layers(space.model, tuple(chosen))
    stored = [n for n in layers_where(child, "fp8")]
    assert stored == [1, 2, 3, 4]
    assert layers_where(child, "bf16") == [n for n in range(36) if n not in stored]
    gone = tuple(c for c in space.candidates if c.text == "noop")
    assert 1 not in layers_where(edits.child_layers(space.model, gone), "bf16")


def layers_where(child: tuple[Layer, ...], word: str) -> list[int]:
    return list(evaluate.layers_of(layers(where=is_test("kv_cache", word)), child))


def test_pages_of_another_size_are_a_group_of_their_own() -> None:
    full = Attention(64, 8, 64)
    window, small = replace(full, window=128), replace(full, window=128, kv_dtype="fp8_e4m3")
    kinds = paging.padded([(full, 18), (window, 12), (small, 6)])
    assert [(k.attention.kv_dtype, k.layers, k.slots) for k in kinds] == [
        ("bf16", 18, 18),
        ("bf16", 12, 12),
        ("fp8_e4m3", 6, 6),
    ]
    assert kinds[2].held(1000) * 2 == kinds[1].held(1000)
    alike = paging.padded([(full, 18), (replace(full, kv_dtype="fp8_e4m3"), 5)])
    assert [k.wasted for k in alike] == [0, 0], "without windows, engines page every layer alone"
    uneven = paging.padded([(full, 7), (window, 18), (replace(full, kv_dtype="fp8_e4m3"), 11)])
    assert [(k.layers, k.slots) for k in uneven] == [(7, 7), (11, 14), (18, 21)]


# ---- the language ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "code", "message"),
    [
        ("choose kv_cache in layers { keep fp8_e4m3 }", "E0303", "`fp8_e4m3` needs scales"),
        (
            "choose kv_cache in layers { keep fp8_e4m3 by moe.reap(text) }",
            "E0302",
            "`fp8_e4m3` cannot be scaled by `moe.reap(text)`",
        ),
        ("choose kv_cache in layers { keep fp8_e4m3 4 by kv.unit }", "E0303", "takes no value"),
        ("choose kv_cache in layers { keep int8 by kv.unit }", "E0201", "`int8`"),
        (
            "choose kv_cache in layers { fp8_e4m3 by kv.unit fp8_e4m3 by kv.mse_calibrated(text) }",
            "E0202",
            "`fp8_e4m3` is listed twice",
        ),
        ("choose router in layers { keep active }", "E0303", "`active` needs a value"),
        ("choose router in layers { keep active 2 by moe.reap(text) }", "E0303", "no ranking"),
        ("apply kv_cache { dtype = fp8_e4m3 }", "E0207", "`apply kv_cache` needs `scales`"),
        (
            "apply kv_cache { dtype = bf16 scales = kv.unit }",
            "E0303",
            "a cache in BF16 takes no scales",
        ),
        ("apply kv_cache { dtype = int8 scales = kv.unit }", "E0302", "`dtype`"),
        ("apply router { active = 0 }", "E0309", "`active` must be at least 1"),
        ("apply attention { active = 1 }", "E0201", "`attention`"),
        (
            'apply kv_cache { dtype = fp8_e4m3 scales = calibrated_scales("best", text) }',
            "E0201",
            "`calibrated_scales` has no method `best`",
        ),
    ],
)
def test_mistakes_are_told(statement: str, code: str, message: str) -> None:
    _, sink = check_text(f"{BASE}{statement}\n")
    (only,) = sink.found
    assert only.code.id == code
    assert message in only.message


def test_facets_are_what_they_say() -> None:
    made = good(
        BASE
        + "choose kv_cache in layers[1..2] { keep fp8_e4m3 by kv.percentile_calibrated(text) }\n"
        + "choose router in layers { active 2 | 3 keep }\n"
        + "apply kv_cache in layers[3] { dtype = fp8_e4m3 scales = kv.unit }\n"
    )
    assert made.not_yet == ()
    told = [
        (f.kind, f.site, [(a.edit, a.value, a.by and a.by.criterion) for a in f.alternatives])
        for f in made.facets
    ]
    assert told == [
        ("kv_cache", "attention", [("keep", None, None), ("fp8_e4m3", None, "percentile_99.9")]),
        ("kv_cache", "attention", [("fp8_e4m3", None, "unit")]),
        ("router", "experts", [("keep", None, None), ("active", 3, None), ("active", 2, None)]),
    ]
    _, sink = check_text(f"{BASE}choose router in layers {{ active 2 }}\n")
    assert [each.code for each in sink.found] == [catalog.W0719]


def test_datasets_of_scales_belong_to_the_spec() -> None:
    data = 'dataset other = local("o.jsonl") { take = 1 length = 8 tok }\n'
    applied = "apply kv_cache { dtype = fp8_e4m3 scales = kv.max_calibrated(other) }\n"
    made = good(BASE + data + applied)
    assert "other" in [each.name for each in made.datasets]
    assert made.digest != good(BASE + data + applied.replace("other", "text")).digest


def test_records_of_the_table_and_of_the_edits_agree() -> None:
    from surgery.checking.tables import EDITS, FACETS

    told = {
        (site, rule.name, bool(rule.value), bool(rule.rankings), rule.ready)
        for site in FACETS
        for rule in EDITS[site]
    }
    assert told == {(f.kind.value, f.name, f.valued, f.scaled, True) for f in edits.FACETS}
    assert {kind.value: kind.site.value for kind in FacetKind} == dict(FACETS)
