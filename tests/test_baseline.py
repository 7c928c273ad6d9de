"""The uniform rival: same ranking, at least the child's size, legal, and nothing else changed."""

from __future__ import annotations

import pytest
from conftest import GPT_OSS_SPEC, LLAMA_SPEC, Workplace

from surgery import edits, sizes
from surgery.diagnostics import Sink
from surgery.grammar.parse import parse, read_source
from surgery.ir import Candidate, Experts, Site, Space
from surgery.passes import baseline, check, cost, expand, resolve


def _space(workplace: Workplace, spec: str) -> Space:
    sink = Sink()
    source = read_source(workplace.write("a.surg", spec), sink)
    assert source is not None
    checked = check.run(parse(source, sink), sink, {})
    assert checked is not None, sink.found
    model = resolve.run(checked, sink, workplace.folder / "cache")
    assert model is not None, sink.found
    space = expand.run(checked, model, sink)
    assert space is not None, sink.found
    return space


def _params(space: Space, child: tuple[Candidate, ...]) -> int:
    return sizes.params(cost.chosen_costs(space, child))


WITHOUT_KEEP = LLAMA_SPEC.replace(
    "  keep\n  width 96 | 64 by", "  width 96 | 64 by channel_contribution(text)\n  width 32 by"
)
SOME_LAYERS = LLAMA_SPEC.replace("choose ffn in layers {", "choose ffn in layers[1..2] {")


@pytest.mark.parametrize("share", [90, 75, 60])
@pytest.mark.parametrize(
    ("spec", "site"),
    [
        (LLAMA_SPEC, Site.FFN),
        (WITHOUT_KEEP, Site.FFN),
        (SOME_LAYERS, Site.FFN),
        (GPT_OSS_SPEC, Site.EXPERTS),
    ],
    ids=["llama", "without keep", "some layers", "gpt_oss"],
)
def test_one_size_everywhere(spec: str, site: Site, share: int, workplace: Workplace) -> None:
    space = _space(workplace, spec)
    wanted = space.model.params * share // 100
    child = baseline.uniform(space, wanted)
    assert child is not None
    assert len({c.text for c in child if c.site is site}) == 1
    for candidate in child:
        parent = space.model.layers[candidate.layer].block(candidate.site)
        if candidate.site is not site:
            assert candidate.block == parent
        elif candidate.alternative is not None:
            assert parent is not None
            if site is Site.EXPERTS:
                refusal = edits.refuse(space.model, parent, site, candidate.alternative)
                assert refusal is None
    # The smallest that is large enough: one parameter more than it has needs a larger one.
    assert _params(space, child) >= wanted
    larger = baseline.uniform(space, _params(space, child) + 1)
    assert larger is None or _params(space, larger) > _params(space, child)
    same = baseline.uniform(space, _params(space, child))
    assert same == child


def test_experts_stay_above_the_active_ones(workplace: Workplace) -> None:
    child = baseline.uniform(_space(workplace, GPT_OSS_SPEC), 0)
    assert child is not None
    counts = {c.block.count for c in child if isinstance(c.block, Experts)}
    assert counts == {2}


def test_no_rival_without_sizes(workplace: Workplace) -> None:
    head, _, rest = LLAMA_SPEC.partition("choose ffn")
    spec = head + rest[rest.index("require") :]
    assert baseline.uniform(_space(workplace, spec), 0) is None
