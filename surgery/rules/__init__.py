"""The lints, one file each; every file ends in its `RULE`.

Grouped by what a rule must know, because a lint that could not look has not found anything: an
`allow` of it is not unused. To add a rule, add its file and its line here.
"""

from __future__ import annotations

from surgery.rules import (
    blind_score,
    covering_selection,
    decimal_context_length,
    decimal_gpu_memory,
    dominated_alternative,
    empty_selection,
    magic_number,
    missing_keep,
    no_op_window,
    no_recover,
    scattered_acts,
    selection_covers_everything,
    shadowed_std,
    short_calibration,
    single_scenario,
    slack_requirement,
    train_test_overlap,
    unbalanced_experts,
    undocumented_input,
    unfrozen_router,
    unlabelled_requirement,
    unpinned_model,
    unused_name,
    vacuous_memory,
)
from surgery.rules.rule import Rule, Subject

__all__ = ["FROM_MEASURED", "FROM_MODEL", "FROM_SPEC", "FROM_TREE", "RULES", "Rule", "Subject"]

FROM_TREE: tuple[Rule, ...] = (
    unused_name.RULE,
    shadowed_std.RULE,
    decimal_context_length.RULE,
    decimal_gpu_memory.RULE,
    missing_keep.RULE,
    scattered_acts.RULE,
    train_test_overlap.RULE,
    magic_number.RULE,
    unfrozen_router.RULE,
    undocumented_input.RULE,
    unlabelled_requirement.RULE,
)
"""Rules that need the text alone."""

FROM_SPEC: tuple[Rule, ...] = (
    unpinned_model.RULE,
    selection_covers_everything.RULE,
    single_scenario.RULE,
    short_calibration.RULE,
    vacuous_memory.RULE,
)
"""Rules that need a spec without mistakes."""

FROM_MODEL: tuple[Rule, ...] = (
    empty_selection.RULE,
    covering_selection.RULE,
    no_op_window.RULE,
    slack_requirement.RULE,
    unbalanced_experts.RULE,
    blind_score.RULE,
    no_recover.RULE,
)
"""Rules that need the parent, or find less without it."""

FROM_MEASURED: tuple[Rule, ...] = (dominated_alternative.RULE,)
"""Rules that need what the library has measured, or find less without it."""

RULES: tuple[Rule, ...] = (*FROM_TREE, *FROM_SPEC, *FROM_MODEL, *FROM_MEASURED)
"""Every rule, in the order in which they look."""
