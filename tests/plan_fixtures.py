"""Plans for the tests of the plan file, of differences and of views: at random, and one by hand."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec.structs import replace

from surgery.ir import Decision, Evidence, Plan, Site
from surgery.lockfile import canonical

_hex = "0123456789abcdef"
_word = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=8)
_printed = st.sampled_from(
    ["1.63x", "58.60GiB", "88.15B", "0.0176", "10", "8K tok", "0 exceptions"]
)
_digest = st.text(_hex, min_size=16, max_size=16)
_kept = st.one_of(
    st.none(),
    st.lists(st.integers(0, 60), min_size=1, unique=True).map(lambda n: tuple(sorted(n))),
)
_text = st.sampled_from(["full", "window(8K)", "window(128)", "kv_heads(2)", "noop", "64", "1536"])


@st.composite
def _decisions(draw: st.DrawFn) -> tuple[Decision, ...]:
    places = draw(
        st.lists(st.tuples(st.integers(0, 120), st.sampled_from(Site)), unique=True, max_size=8)
    )
    return tuple(
        Decision(
            layer,
            site,
            draw(_text),
            draw(st.one_of(st.just(""), st.text(_hex, min_size=6, max_size=6))),
            draw(_kept),
        )
        for layer, site in places
    )


_evidence = st.builds(
    Evidence, _word.map(lambda w: f"@{w}"), _printed, st.sampled_from(["<=", ">=", "=="]), _printed
)


_named = st.tuples(st.sampled_from(["released.plan", "old plans/b.plan"]), _digest)
_tables = st.tuples(st.sampled_from(["scores.csv", "my scores.parquet", "a#1.csv"]), _digest)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans in canonical order with shortened digests: what a file can hold."""
    metrics = draw(st.dictionaries(st.one_of(_word, st.just("kv@8K")), _printed, max_size=4))
    return canonical(
        Plan(
            spec=(draw(_word) + ".surg", draw(_digest)),
            parent=(draw(st.sampled_from(["hf:a/b@c1", "local:my models/x"])), draw(_digest)),
            library=draw(_digest),
            toolchain=draw(
                st.sampled_from(["surgery-0.1.0 highs-1.15.1", "surgery-9.9.9 highs-2"])
            ),
            decisions=draw(_decisions()),
            solver=(("status", "optimal"), ("gap", draw(st.sampled_from(["0", "1e-12"])))),
            objective=(draw(st.sampled_from(["minimize a + b", "minimize 2 * a"])), draw(_printed)),
            requirements=tuple(draw(st.lists(_evidence, max_size=4))),
            metrics=tuple(metrics.items()),
            stated=draw(st.one_of(st.none(), _digest)),
            tables=draw(st.lists(_tables, max_size=2, unique_by=lambda t: t[0]).map(tuple)),
            plans=draw(st.lists(_named, max_size=2, unique_by=lambda t: t[0]).map(tuple)),
        )
    )


def example() -> Plan:
    """Six layers of a mixture of experts: two cut, one with a shorter window."""
    cut = {2: ("e" * 64, (*range(12), 14, 20, 21, 30)), 4: ("f" * 64, tuple(range(16)))}
    decisions: list[Decision] = []
    for layer in range(6):
        full = Decision(layer, Site.ATTENTION, "full" if layer % 2 else "window(128)")
        if layer == 3:
            full = Decision(layer, Site.ATTENTION, "window(8K)", "ab" * 32)
        experts = Decision(layer, Site.EXPERTS, "32")
        if layer in cut:
            experts = Decision(layer, Site.EXPERTS, "16", *cut[layer])
        decisions += [full, experts]
    return Plan(
        spec=("tiny-moe.surg", "1" * 64),
        parent=("local:tiny-moe", "2" * 64),
        library="3" * 64,
        toolchain="surgery-0.1.0 highs-1.15.1",
        decisions=tuple(decisions),
        solver=(("status", "optimal"), ("gap", "0"), ("seed", "0")),
        objective=("minimize damage + 0.5 * reach", "0.4127"),
        requirements=(
            Evidence("@kv", "1346.2MiB", "<=", "1400.0MiB"),
            Evidence("@sight", "2", ">=", "2"),
            Evidence("@size", "88.15B", "<=", "88.50B"),
        ),
        metrics=(
            ("params", "88.15B"),
            ("weights", "46.56GiB"),
            ("kv@128K", "1346.2MiB/seq"),
            ("damage", "0.4039"),
            ("reach", "0.0176"),
        ),
    )


def changed() -> Plan:
    """The example after `@size` was tightened: other decisions, other evidence."""
    plan = example()
    decisions = list(plan.decisions)
    for number, decided in enumerate(decisions):
        if decided.site is Site.EXPERTS and decided.layer in (0, 1):
            decisions[number] = replace(decided, text="16", artefact="c" * 64, kept=(0, 1, 2, 3))
        if decided.site is Site.EXPERTS and decided.layer == 4:
            decisions[number] = replace(decided, artefact="d" * 64, kept=tuple(range(1, 17)))
        if decided.site is Site.ATTENTION and decided.layer == 3:
            decisions[number] = replace(decided, text="full", artefact="", kept=None)
    return replace(
        plan,
        spec=("tiny-moe.surg", "4" * 64),
        decisions=tuple(decisions),
        objective=("minimize damage + 0.5 * reach", "0.4719"),
        requirements=(
            Evidence("@kv", "1226.2MiB", "<=", "1400.0MiB"),
            Evidence("@sight", "3", ">=", "2"),
            Evidence("@size", "83.37B", "<=", "84.00B"),
        ),
        metrics=(
            ("params", "83.37B"),
            ("weights", "44.19GiB"),
            ("kv@128K", "1226.2MiB/seq"),
            ("damage", "0.4619"),
            ("reach", "0.0176"),
        ),
    )
