"""The released child against its parent: predicted ratios beside the published ones."""

from __future__ import annotations

import pytest
from bench import released_88b as released
from bench.released_88b import SCENARIOS, VARIED, Assumed, both

from surgery import sizes
from surgery.costing.parallel import Parallel


def test_the_models_weigh_what_is_published() -> None:
    for child, weights in ((False, 65_248_815_744), (True, 49_993_752_960)):
        made = released.model(child, "bf16")
        assert sum(part.total for part in made.parts) + made.fixed.total == weights
        held = [sizes.kv_per_token(layer.attention) for layer in made.layers]
        assert held == [2048] * 36
    assert Parallel().gpus == 1


@pytest.mark.parametrize("name", list(SCENARIOS)[:2])
def test_ratios_on_eight_gpus(name: str) -> None:
    found = both(name, Assumed())
    assert found.ratio == pytest.approx(SCENARIOS[name][3], rel=0.1)
    assert found.child.batch >= found.parent.batch > 0


def test_the_ratio_on_one_gpu_lies_within_its_sensitivity() -> None:
    """A few gigabytes are left for the parent's cache, so that every assumption counts."""
    (name,) = list(SCENARIOS)[2:]
    found = [both(name, assumed).ratio for assumed in VARIED.values()]
    assert min(found) < SCENARIOS[name][3] < max(found)
    assert max(found) > 2 * min(found)
