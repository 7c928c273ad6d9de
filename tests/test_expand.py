"""The space of candidates: order, addresses, legality, merges and layers left bare."""

from __future__ import annotations

import pytest
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

from surgery.diagnostics import Diagnostic, Sink
from surgery.ir import Alternative, Attention, Choice, Experts, Model, NotYet, Site, Space, Spec
from surgery.passes import expand
from surgery.units import format_layers

FULL = layers(where=is_test("attention", "full"))
MOE = gpt_oss()
DENSE = smollm()


def expanded(model: Model, *choices: Choice, quiet: bool = True) -> Space:
    sink = Sink()
    space = expand.run(spec(*choices), model, sink)
    assert space is not None, sink.found
    assert not (quiet and sink.found)
    return space


def findings(model: Model, checked: Spec) -> list[Diagnostic]:
    sink = Sink()
    space = expand.run(checked, model, sink)
    assert (space is None) == sink.failed
    return sink.found


def only(model: Model, *choices: Choice) -> Diagnostic:
    (found,) = findings(model, spec(*choices))
    return found


def texts(space: Space, layer: int, site: Site) -> list[str]:
    (option,) = (o for o in space.options if (o.layer, o.site) == (layer, site))
    return [candidate.text for candidate in option.candidates]


# ---- the space -------------------------------------------------------------------------------


def test_the_space_of_gpt_oss() -> None:
    retain = [alternative("retain", n) for n in (64, 112, 48, 80, 96)]
    space = expanded(
        MOE,
        choose(Site.ATTENTION, FULL, alternative("window", 128), KEEP, alternative("window", 8192)),
        choose(Site.EXPERTS, layers(), *retain, KEEP),
    )
    assert [(o.layer, o.site) for o in space.options] == [
        (n, site) for n in range(36) for site in (Site.ATTENTION, Site.EXPERTS)
    ]
    assert len(space.candidates) == 18 * 3 + 18 + 36 * 6
    assert texts(space, 1, Site.ATTENTION) == ["full", "window(8K)", "window(128)"]
    assert texts(space, 0, Site.ATTENTION) == ["window(128)"]
    assert texts(space, 0, Site.EXPERTS) == ["128", "112", "96", "80", "64", "48"]
    assert len({c.address for c in space.candidates}) == len(space.candidates)


def test_candidates_know_what_they_are() -> None:
    space = expanded(
        MOE,
        choose(Site.ATTENTION, FULL, KEEP, alternative("window", 8192)),
        choose(Site.EXPERTS, layers((0, 0)), KEEP, alternative("retain", 64)),
    )
    by_address = {c.address: c for c in space.candidates}
    window = by_address["layer.19.attention.window(8K)"]
    assert window.block == Attention(heads=64, kv_heads=8, head_dim=64, window=8192)
    assert (window.edit, window.changed, window.kept) == ("window", True, None)
    assert (window.cost.kv_window, len(window.artefact)) == (8192, 64)
    full = by_address["layer.19.attention.full"]
    assert (full.edit, full.changed, full.artefact) == ("keep", False, "")
    assert full.cost.params == window.cost.params
    half = by_address["layer.0.experts.64"]
    assert half.block == Experts(count=64, active=4, width=2880)
    assert (half.kept, half.artefact) == (None, "")


def test_sites_that_nobody_edits_keep_their_block() -> None:
    space = expanded(DENSE)
    assert len(space.options) == 60
    assert all(len(o.candidates) == 1 and o.keep is not None for o in space.options)
    assert {c.text for c in space.candidates} == {"full", "1536"}


def test_without_keep_the_parent_is_not_on_offer() -> None:
    space = expanded(
        DENSE, choose(Site.FFN, layers((0, 0)), alternative("width", 64), alternative("noop"))
    )
    assert texts(space, 0, Site.FFN) == ["64", "noop"]
    assert space.options[1].keep is None
    assert texts(space, 1, Site.FFN) == ["1536"]


def test_edits_of_one_site_come_in_a_fixed_order() -> None:
    written = [
        alternative("noop"),
        alternative("kv_heads", 1),
        alternative("window", 64),
        alternative("window", 1024),
        KEEP,
    ]
    space = expanded(DENSE, choose(Site.ATTENTION, layers(), *written))
    assert texts(space, 7, Site.ATTENTION) == [
        *("full", "window(1K)", "window(64)", "kv_heads(1)", "noop")
    ]
    again = expanded(DENSE, choose(Site.ATTENTION, layers(), *reversed(written)))
    assert [c.address for c in again.candidates] == [c.address for c in space.candidates]


def test_when_is_asked_of_every_layer() -> None:
    late = compare(fact("index"), ">=", num(28))
    space = expanded(DENSE, choose(Site.FFN, layers(), KEEP, alternative("noop", when=late)))
    bold = [o.layer for o in space.options if len(o.candidates) == 2]
    assert bold == [28, 29]


def test_two_choices_for_one_site_of_different_layers() -> None:
    space = expanded(
        DENSE,
        choose(Site.FFN, layers((0, 9)), KEEP, alternative("width", 64)),
        choose(Site.FFN, layers((10, 29)), KEEP, alternative("noop")),
    )
    assert texts(space, 9, Site.FFN) == ["1536", "64"]
    assert texts(space, 10, Site.FFN) == ["1536", "noop"]


# ---- refusals --------------------------------------------------------------------------------


def test_an_illegal_alternative_is_one_finding_for_all_layers() -> None:
    found = only(MOE, choose(Site.EXPERTS, layers(), KEEP, alternative("retain", 160, line=7)))
    assert found.code.id == "E0405"
    assert found.message == "`retain 160` keeps more experts than the layer has"
    primary, why = found.labels
    assert (primary.span, primary.text, primary.primary) == (span(7), "160 of 128", True)
    assert (why.span, why.text) == (span(199), "128 experts, 4 active per token")
    assert found.helps[0].text == "remove the alternative; `keep` already means all 128"


def test_every_illegal_alternative_is_its_own_finding() -> None:
    choice = choose(
        Site.EXPERTS,
        layers(),
        *(KEEP, alternative("retain", 160), alternative("retain", 3), alternative("retain", 64)),
    )
    assert [d.code.id for d in findings(MOE, spec(choice))] == ["E0405", "E0406"]


def test_a_refusal_names_the_layers_it_is_about() -> None:
    found = only(MOE, choose(Site.ATTENTION, layers((0, 8)), KEEP, alternative("window", 8192)))
    assert found.code.id == "E0408"
    assert found.labels[0].text == "the window is 128 tok already in layers 0, 2, 4, 6, 8"


@pytest.mark.parametrize(
    ("model", "site", "code"),
    [(MOE, Site.FFN, "E0403"), (DENSE, Site.EXPERTS, "E0403"), (DENSE, Site.FFN, None)],
)
def test_a_site_that_the_model_does_not_have(model: Model, site: Site, code: str | None) -> None:
    edit = alternative("width", 64) if site is Site.FFN else alternative("retain", 4)
    found = findings(model, spec(choose(site, layers(), KEEP, edit)))
    assert [d.code.id for d in found] == ([code] if code else [])
    if code:
        other = {Site.FFN: "experts", Site.EXPERTS: "ffn"}[site]
        assert found[0].helps[0].text == f"choose `{other}` instead"


def test_a_site_that_some_layers_do_not_have() -> None:
    bare = [replace(n, attention=None) if n.index in (3, 4, 9) else n for n in DENSE.layers]
    model = replace(
        DENSE,
        layers=tuple(bare),
        tensors=tuple(
            t for t in DENSE.tensors if t.site is not Site.ATTENTION or t.layer not in (3, 4, 9)
        ),
    )
    found = only(model, choose(Site.ATTENTION, layers(), KEEP, alternative("noop")))
    assert found.code.id == "E0403"
    assert found.message == "layers 3-4, 9 of the model have no attention"
    where = layers(where=is_test("attention", "noop", negated=True))
    space = expanded(model, choose(Site.ATTENTION, where, KEEP, alternative("noop")))
    assert texts(space, 3, Site.ATTENTION) == ["noop"]
    assert texts(space, 5, Site.ATTENTION) == ["full", "noop"]


def test_overlapping_choices() -> None:
    found = only(
        DENSE,
        choose(Site.FFN, layers((0, 9), line=4), KEEP, alternative("noop"), line=3),
        choose(Site.FFN, layers((8, 29), line=6), KEEP, alternative("noop"), line=5),
        choose(Site.ATTENTION, layers(), KEEP, alternative("noop")),
    )
    assert found.code.id == "E0404"
    assert found.message == "two choices for `ffn` share layers 8-9"
    later, earlier = (label.span for label in found.labels)
    assert (later.start, later.end) == (span(5).start, span(6).end)
    assert (earlier.start, earlier.end) == (span(3).start, span(4).end)


def test_an_empty_selection_changes_nothing_and_says_so() -> None:
    choice = choose(Site.ATTENTION, layers(where=is_test("attention", "noop")), KEEP)
    assert only(MOE, choice).code.id == "W0701"


def test_a_when_that_never_holds() -> None:
    never = compare(fact("index"), ">", num(99))
    found = only(DENSE, choose(Site.FFN, layers(), KEEP, alternative("noop", when=never)))
    assert found.code.id == "W0701"
    assert found.labels[0].text == "false in layers 0-29"


def test_layers_left_without_an_alternative() -> None:
    late = compare(fact("index"), ">=", num(2))
    middle = compare(num(1), "<", fact("index"), "<", num(29))
    found = only(
        DENSE,
        choose(
            Site.FFN,
            layers(),
            alternative("noop", when=late),
            alternative("width", 64, when=middle),
        ),
    )
    assert found.code.id == "E0602"
    assert found.message == "layers 0-1 have no alternative left for `ffn`"
    assert [label.text for label in found.labels] == [
        "selects layers 0-1",
        "removes `noop` there",
        "removes `width 64` there",
    ]


def test_an_illegal_alternative_is_not_blamed_twice() -> None:
    found = only(DENSE, choose(Site.FFN, layers(), alternative("width", 61)))
    assert found.code.id == "E0407"


def test_a_condition_without_a_value_is_reported_once() -> None:
    needs_window = compare(fact("window"), "<", num(128))
    found = only(
        MOE, choose(Site.EXPERTS, layers(), KEEP, alternative("retain", 64, when=needs_window))
    )
    assert found.code.id == "E0205"


def test_spaces_that_cannot_be_searched_are_refused_by_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [alternative("retain", 4)] * (expand.MAX_PER_SITE + 1)
    found = only(MOE, choose(Site.EXPERTS, layers((0, 0)), *many))
    assert found.code.id == "E0414"
    assert found.message == "4097 alternatives for one site are more than 4096"
    monkeypatch.setattr(expand, "MAX_CANDIDATES", 71)
    whole = choose(Site.EXPERTS, layers(), KEEP, alternative("retain", 64))
    assert only(MOE, whole).message == "72 candidates are more than 71"


# ---- merges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "site", "edit", "other", "text"),
    [
        (MOE, Site.EXPERTS, alternative("retain", 128), alternative("retain", 64), "128"),
        (DENSE, Site.FFN, alternative("width", 1536), alternative("noop"), "1536"),
        (DENSE, Site.ATTENTION, alternative("kv_heads", 3), alternative("noop"), "full"),
    ],
)
@pytest.mark.parametrize("keep", [True, False])
def test_restating_keep(
    *, model: Model, site: Site, edit: Alternative, other: Alternative, text: str, keep: bool
) -> None:
    choice = choose(site, layers((1, 2)), edit, other, *((KEEP,) if keep else ()))
    found = only(model, choice)
    assert found.code.id == "W0707"
    assert found.labels[0].text == f"the parent has {text} already"
    assert found.helps[0].text.startswith("remove" if keep else "write `keep`")
    space = expanded(model, choice, quiet=False)
    (option,) = (o for o in space.options if (o.layer, o.site) == (1, site))
    assert [c.changed for c in option.candidates] == [False, True]
    assert option.candidates[0].text == text


def test_the_same_alternative_twice() -> None:
    choice = choose(
        Site.EXPERTS,
        layers(),
        KEEP,
        alternative("retain", 64, line=3),
        alternative("retain", 64, line=4),
    )
    found = only(MOE, choice)
    assert found.code.id == "W0707"
    assert found.message == "`retain 64` is offered twice"
    assert [label.span for label in found.labels] == [span(4), span(3)]
    assert texts(expanded(MOE, choice, quiet=False), 0, Site.EXPERTS) == ["128", "64"]


def test_two_rankings_of_one_size_cannot_share_a_layer() -> None:
    early, late = (compare(fact("index"), op, num(18)) for op in ("<", ">="))
    one, other = (alternative("retain", 64, ranking=name) for name in ("reap", "random"))
    assert only(MOE, choose(Site.EXPERTS, layers(), KEEP, one, other)).code.id == "E0415"
    space = expanded(
        MOE,
        choose(
            Site.EXPERTS,
            layers(),
            KEEP,
            alternative("retain", 64, ranking="reap", when=early),
            alternative("retain", 64, ranking="random", when=late),
        ),
    )
    rankings = [
        c.alternative.by.criterion
        for c in space.candidates
        if c.text == "64" and c.alternative is not None and c.alternative.by is not None
    ]
    assert rankings == ["reap"] * 18 + ["random"] * 18


# ---- not yet ---------------------------------------------------------------------------------


def test_what_has_no_back_end_is_an_error_before_planning_and_a_warning_in_check() -> None:
    checked = spec(not_yet=(NotYet(span(8), "`recover`"),))
    strict, lenient = Sink(), Sink()
    expand.refuse_not_yet(checked, strict)
    expand.warn_not_yet(checked, lenient)
    assert [(d.code.id, d.message) for d in strict.found] == [
        ("E0011", "`recover` has no back end yet")
    ]
    assert [d.code.id for d in lenient.found] == ["W0011"]
    assert strict.failed
    assert not lenient.failed


def test_layer_ranges() -> None:
    assert format_layers([21, 15, 17, 19, *range(21, 36)]) == "15, 17, 19, 21-35"
    assert format_layers([3]) == "3"
    assert format_layers([], " ") == ""
