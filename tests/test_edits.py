"""Legality, what edits make of blocks, which tensors they cut, and identity."""

from __future__ import annotations

from fractions import Fraction

import pytest
from msgspec.structs import replace
from space_fixtures import KEEP, alternative, gpt_oss, ready_inits, smollm

from surgery import edits
from surgery.checking.tables import EDITS as RULES
from surgery.checking.tables import READY_SITES
from surgery.edits.attention import legal_kv_heads
from surgery.ir import (
    Alternative,
    Attention,
    Block,
    Candidate,
    Cost,
    Experts,
    Ffn,
    Model,
    Ranking,
    Site,
)
from surgery.ops import Copy, MeanHeads, Take

MIXTURE = gpt_oss(num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"])
DENSE = smollm(num_hidden_layers=2)


def candidate(
    model: Model,
    layer: int,
    site: Site,
    chosen: Alternative,
    kept: tuple[int, ...] | None = None,
) -> Candidate:
    """A candidate without a price."""
    block = model.layers[layer].block(site)
    assert block is not None
    child: Block | None = block
    if chosen.edit != "keep":
        child = edits.known(site, chosen.edit).become(block, edits.argument(chosen))
    free = Cost(0, 0)
    return Candidate(f"layer.{layer}.{site}", layer, site, "", child, free, chosen, kept)


def refusal(model: Model, layer: int, site: Site, chosen: Alternative) -> str:
    """The code and the label of the refusal, or nothing."""
    block = model.layers[layer].block(site)
    assert block is not None
    found = edits.refuse(model, block, site, chosen)
    return f"{found.code.id} {found.here}" if found else ""


# ---- legality --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (1, ""),
        (128, ""),
        (131071, ""),
        (131072, "E0408 the model sees 128K tok at most"),
        (262144, "E0408 the model sees 128K tok at most"),
    ],
)
def test_windows_of_full_attention(value: int, code: str) -> None:
    assert refusal(MIXTURE, 1, Site.ATTENTION, alternative("window", value)) == code


@pytest.mark.parametrize(("value", "legal"), [(1, True), (127, True), (128, False), (129, False)])
def test_windows_of_windowed_attention(value: int, legal: bool) -> None:
    found = refusal(MIXTURE, 0, Site.ATTENTION, alternative("window", value))
    assert found == ("" if legal else "E0408 the window is 128 tok already")


def test_kv_heads_must_pool_evenly() -> None:
    # 8 KV heads: 3 does not divide 64 query heads, 16 does but there are only 8 to pool.
    legal = [n for n in range(1, 20) if not refusal(MIXTURE, 1, Site.ATTENTION, _kv(n))]
    assert legal == [1, 2, 4, 8]
    assert refusal(MIXTURE, 1, Site.ATTENTION, _kv(16)) == "E0409 16 of 8"
    block = Attention(heads=12, kv_heads=6, head_dim=8)
    assert legal_kv_heads(block) == (1, 2, 3)
    # 4 divides the query heads, but six heads do not pool into four.
    found = edits.refuse(MIXTURE, block, Site.ATTENTION, _kv(4))
    assert found is not None
    assert found.message == "4 KV heads cannot be pooled from 6"
    assert found.help == "a legal number is 1, 2 or 3"


def _kv(value: int) -> Alternative:
    return alternative("kv_heads", value, init="mean")


@pytest.mark.parametrize(
    ("value", "code"),
    [(128, ""), (4, ""), (129, "E0405 129 of 128"), (3, "E0406 3 kept, but each")],
)
def test_experts_to_retain(value: int, code: str) -> None:
    found = refusal(MIXTURE, 0, Site.EXPERTS, alternative("retain", value))
    assert found.startswith(code)
    assert bool(found) == bool(code)


def test_widths_are_multiples_that_kernels_and_formats_want() -> None:
    legal = [n for n in range(1, 200) if not refusal(DENSE, 0, Site.FFN, alternative("width", n))]
    assert legal == [32, 64, 96, 128, 160, 192]
    assert refusal(DENSE, 0, Site.FFN, alternative("width", 1537)) == "E0407 1537 of 1536"
    found = edits.refuse(DENSE, Ffn(1536), Site.FFN, alternative("width", 100))
    assert found is not None
    assert found.help == "the nearest legal widths are 96 and 128"


def test_a_parent_that_is_not_aligned_asks_for_no_more() -> None:
    fine = [n for n in range(1, 13) if not edits.refuse(DENSE, Ffn(12), Site.FFN, _width(n))]
    assert fine == [4, 8, 12]


def _width(value: int) -> Alternative:
    return alternative("width", value)


@pytest.mark.parametrize(
    ("site", "chosen"),
    [
        (Site.FFN, alternative("width")),
        (Site.FFN, alternative("width", 0)),
        (Site.ATTENTION, alternative("window", Fraction(5, 2))),
        (Site.FFN, alternative("noop", 3)),
        (Site.FFN, alternative("width", 64, ranking="")),
        (Site.FFN, replace(alternative("noop"), by=Ranking(KEEP.span, "random", None))),
        (Site.ATTENTION, alternative("kv_heads", 1, init="first")),
        (Site.ATTENTION, alternative("window", 64, init="mean")),
    ],
)
def test_clauses_that_an_edit_does_not_take_are_no_user_mistakes(
    site: Site, chosen: Alternative
) -> None:
    with pytest.raises(ValueError, match="with the"):
        refusal(DENSE, 0, site, chosen)


def test_the_checker_and_the_registry_know_the_same_edits() -> None:
    ready = {
        (site, rule.name, bool(rule.value), bool(rule.rankings), ready_inits(rule.inits))
        for site in READY_SITES
        for rule in RULES[site]
        if rule.ready
    }
    known = {(str(e.site), e.name, e.valued, bool(e.selects), e.inits) for e in edits.EDITS}
    assert ready == known


def test_which_edits_select() -> None:
    assert {e.name for e in edits.EDITS if edits.selects(e.name)} == {"width", "retain", "merge"}
    assert not edits.selects("keep")
    assert edits.find(Site.EXPERTS, "noop") is None


# ---- text ------------------------------------------------------------------------------------


def test_texts_are_absolute() -> None:
    shown = [
        edits.keep_text(Site.ATTENTION, MIXTURE.layers[1].attention),
        edits.keep_text(Site.ATTENTION, MIXTURE.layers[0].attention),
        edits.keep_text(Site.EXPERTS, MIXTURE.layers[0].mlp),
        edits.keep_text(Site.FFN, DENSE.layers[0].mlp),
        edits.keep_text(Site.FFN, None),
        edits.known(Site.ATTENTION, "window").text(8192),
        edits.known(Site.ATTENTION, "window").text(1000),
        edits.known(Site.ATTENTION, "kv_heads").text(1),
        edits.known(Site.ATTENTION, "noop").text(0),
        edits.known(Site.FFN, "width").text(1024),
        edits.known(Site.EXPERTS, "retain").text(64),
    ]
    assert shown == [
        *("full", "window(128)", "128", "1536", "noop"),
        *("window(8K)", "window(1000)", "kv_heads(1)", "noop", "1024", "64"),
    ]


# ---- tensors ---------------------------------------------------------------------------------


def test_a_window_copies_every_tensor() -> None:
    chosen = candidate(MIXTURE, 1, Site.ATTENTION, alternative("window", 8192))
    parts = edits.outputs(MIXTURE, chosen)
    assert {part.name for part in parts} == {
        f"model.layers.1.{name}"
        for name in (
            "input_layernorm.weight",
            "self_attn.sinks",
            *(f"self_attn.{p}_proj.{kind}" for p in "qkvo" for kind in ("weight", "bias")),
        )
    }
    assert all(part.op == Copy(part.name) for part in parts)
    assert chosen.block == Attention(heads=64, kv_heads=8, head_dim=64, window=8192)


def test_kv_heads_pools_what_has_kv_heads() -> None:
    parts = {
        part.name.removeprefix("model.layers.1.self_attn."): part
        for part in edits.outputs(MIXTURE, candidate(MIXTURE, 1, Site.ATTENTION, _kv(2)))
    }
    pooled = {name for name, part in parts.items() if isinstance(part.op, MeanHeads)}
    assert pooled == {"k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"}
    key = parts["k_proj.weight"]
    assert key.op == MeanHeads("model.layers.1.self_attn.k_proj.weight", heads=2, head_dim=64)
    assert (key.shape, key.nbytes, key.numel) == ((128, 2880), 128 * 2880 * 2, 128 * 2880)
    assert parts["k_proj.bias"].shape == (128,)
    assert parts["sinks"].shape == (64,)


def test_width_takes_rows_and_columns() -> None:
    kept = tuple(range(0, 1536, 3))
    chosen = candidate(DENSE, 1, Site.FFN, alternative("width", 512), kept)
    parts = {part.name: part for part in edits.outputs(DENSE, chosen)}
    stem = "model.layers.1.mlp"
    assert parts[f"{stem}.gate_proj.weight"].op == Take(f"{stem}.gate_proj.weight", 0, kept)
    assert parts[f"{stem}.up_proj.weight"].shape == (512, 576)
    assert parts[f"{stem}.down_proj.weight"].op == Take(f"{stem}.down_proj.weight", 1, kept)
    assert parts[f"{stem}.down_proj.weight"].shape == (576, 512)
    assert parts[f"{stem}.down_proj.weight"].nbytes == 576 * 512 * 2
    norm = "model.layers.1.post_attention_layernorm.weight"
    assert parts[norm].op == Copy(norm)
    assert len(parts) == 4


def test_interleaved_channels_move_in_pairs() -> None:
    family = smollm(num_hidden_layers=1)
    tensors = tuple(
        replace(t, axes=("ffn*2", "hidden"), shape=(3072, 576), nbytes=2 * t.nbytes)
        for t in family.tensors
        if t.name.endswith("gate_proj.weight")
    )
    (part,) = edits.cut(tensors, Ffn(1536), Site.FFN, _width(32), tuple(range(32)))
    assert part.op == Take(tensors[0].name, 0, tuple(range(32)), unit=2)
    assert part.shape == (64, 576)
    assert part.nbytes == 64 * 576 * 2


def test_retain_moves_packed_experts_as_slices() -> None:
    kept = (1, 5, 7, 100)
    chosen = candidate(MIXTURE, 0, Site.EXPERTS, alternative("retain", 4), kept)
    parts = {part.name.split(".", 3)[3]: part for part in edits.outputs(MIXTURE, chosen)}
    taken = {name for name, part in parts.items() if isinstance(part.op, Take)}
    assert taken == {
        "mlp.router.weight",
        "mlp.router.bias",
        *(
            f"mlp.experts.{m}_proj_{kind}"
            for m in ("gate_up", "down")
            for kind in ("blocks", "scales", "bias")
        ),
    }
    assert set(parts) - taken == {"post_attention_layernorm.weight"}
    blocks = parts["mlp.experts.gate_up_proj_blocks"]
    source = "model.layers.0.mlp.experts.gate_up_proj_blocks"
    assert blocks.op == Take(source, 0, kept)
    assert (blocks.dtype, blocks.shape) == ("U8", (4, 5760, 90, 16))
    assert (blocks.nbytes, blocks.numel) == (4 * 5760 * 90 * 16, 4 * 5760 * 2880)
    assert parts["mlp.experts.gate_up_proj_scales"].numel == 0
    assert chosen.block == Experts(count=4, active=4, width=2880)


@pytest.mark.parametrize(("model", "site"), [(MIXTURE, Site.ATTENTION), (DENSE, Site.FFN)])
def test_noop_takes_the_site_with_its_norm(model: Model, site: Site) -> None:
    chosen = candidate(model, 1, site, alternative("noop"))
    assert edits.outputs(model, chosen) == ()
    gone = {t.name for t in model.tensors} - {p.name for p in edits.child_outputs(model, (chosen,))}
    assert gone == {t.name for t in edits.block_tensors(model, 1, site)}
    assert any(name.endswith("layernorm.weight") for name in gone)
    layer = edits.child_layers(model, (chosen,))[1]
    assert (layer.attention, layer.mlp).count(None) == 1
    assert layer.block(site) is None


def test_the_identity_copies_everything_in_order() -> None:
    whole = edits.child_outputs(MIXTURE, ())
    keep = tuple(
        candidate(MIXTURE, layer.index, site, KEEP)
        for layer in MIXTURE.layers
        for site in layer.sites
    )
    assert edits.child_outputs(MIXTURE, keep) == whole
    assert edits.child_layers(MIXTURE, keep) == MIXTURE.layers
    assert [part.name for part in whole] == [t.name for t in MIXTURE.tensors]
    assert all(part.op == Copy(part.name) for part in whole)


@pytest.mark.parametrize(
    "kept", [None, (), (1, 2, 3), (1, 2, 2, 3), (4, 3, 2, 1), (-1, 0, 1, 2), (0, 1, 2, 128)]
)
def test_kept_lists_that_do_not_fit(kept: tuple[int, ...] | None) -> None:
    chosen = candidate(MIXTURE, 0, Site.EXPERTS, alternative("retain", 4), kept)
    with pytest.raises(ValueError, match=r"kept list|not ranked"):
        edits.outputs(MIXTURE, chosen)


def test_a_site_is_chosen_once() -> None:
    one = candidate(MIXTURE, 0, Site.ATTENTION, KEEP)
    other = candidate(MIXTURE, 0, Site.ATTENTION, alternative("noop"))
    with pytest.raises(ValueError, match="twice"):
        edits.child_outputs(MIXTURE, (one, other))


# ---- identity --------------------------------------------------------------------------------


def test_artefacts_tell_apart_what_differs() -> None:
    retain = alternative("retain", 4)
    some = candidate(MIXTURE, 0, Site.EXPERTS, retain, (0, 1, 2, 3))
    other_model = replace(MIXTURE, digest="f" * 64)
    hashes = [
        edits.artefact(MIXTURE, some),
        edits.artefact(MIXTURE, replace(some, kept=(0, 1, 2, 4))),
        edits.artefact(MIXTURE, replace(some, layer=1)),
        edits.artefact(other_model, some),
        edits.artefact(MIXTURE, candidate(MIXTURE, 0, Site.ATTENTION, alternative("window", 64))),
        edits.artefact(MIXTURE, candidate(MIXTURE, 0, Site.ATTENTION, alternative("window", 65))),
        edits.artefact(MIXTURE, candidate(MIXTURE, 0, Site.ATTENTION, alternative("noop"))),
        edits.artefact(MIXTURE, candidate(MIXTURE, 0, Site.ATTENTION, _kv(1))),
    ]
    assert len(set(hashes)) == len(hashes)
    assert all(len(h) == 64 and set(h) <= set("0123456789abcdef") for h in hashes)


def test_artefacts_forget_what_does_not_matter() -> None:
    chosen = alternative("retain", 4)
    some = candidate(MIXTURE, 0, Site.EXPERTS, chosen, (0, 1, 2, 3))
    other = replace(chosen, by=Ranking(KEEP.span, "frequency", "novels"))
    assert edits.artefact(MIXTURE, some) == edits.artefact(
        MIXTURE, replace(some, alternative=other)
    )
    pooled = candidate(MIXTURE, 0, Site.ATTENTION, _kv(1))
    silent = replace(pooled, alternative=alternative("kv_heads", 1))
    assert edits.artefact(MIXTURE, pooled) == edits.artefact(MIXTURE, silent)
    assert edits.artefact(MIXTURE, candidate(MIXTURE, 0, Site.EXPERTS, KEEP)) == ""


def test_ranking_fills_in_what_is_kept() -> None:
    unranked = candidate(MIXTURE, 0, Site.EXPERTS, alternative("retain", 4))
    filled = edits.ranked(MIXTURE, unranked, (3, 5, 7, 9))
    assert filled.kept == (3, 5, 7, 9)
    assert filled.artefact == edits.artefact(MIXTURE, filled) != ""
    with pytest.raises(ValueError, match="kept list"):
        edits.ranked(MIXTURE, unranked, (3, 5, 7))
    with pytest.raises(ValueError, match="not ranked"):
        edits.artefact(MIXTURE, unranked)
