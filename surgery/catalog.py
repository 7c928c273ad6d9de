"""Every finding that surgery can report, one constant per code.

In: nothing. Out: frozen `Code`s, `BY_ID` and `BY_NAME`. Not here: the text of a particular
finding (the pass that reports it writes it) or the long explanations.

The letter is the severity: `E` cannot proceed, `W` is a lint that `# surg: allow(name)` silences.
The first two digits are the pass that finds it. Numbers are never reused. To add a code, add a
line: the tables at the end collect it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from surgery.diagnostics import Code, Safety, Severity

_SEVERITY = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}
_codes: list[Code] = []


def _code(id: str, name: str, summary: str, fix: Safety | None = None) -> Code:
    code = Code(id, name, _SEVERITY[id[0]], summary, fix)
    _codes.append(code)
    return code


# ---- 00 files and resources ------------------------------------------------------------------

E0001 = _code("E0001", "unreadable-file", "file not found, or not readable")
E0002 = _code("E0002", "not-utf8", "file is not UTF-8 text")
E0003 = _code(
    "E0003", "missing-edition", "edition missing or unknown: specs begin with `surg 1`", Safety.SAFE
)
E0004 = _code(
    "E0004", "malformed-checkpoint", "unsupported or malformed safetensors, GGUF or JSON file"
)
E0005 = _code("E0005", "unfetchable-model", "cannot fetch the model, and it is not cached")
E0006 = _code("E0006", "unknown-code", "`surgery explain` is asked for a code that does not exist")
E0011 = _code("E0011", "no-back-end", "a plan uses a statement that has no back end yet")
E0012 = _code("E0012", "bad-configuration", "`[tool.surgery]` of `pyproject.toml` is wrong")
W0011 = _code("W0011", "not-yet", "a statement that has no back end yet")

# ---- 01 syntax -------------------------------------------------------------------------------

E0101 = _code("E0101", "missing-equals", "expected `=` after a field name", Safety.SAFE)
E0102 = _code("E0102", "unclosed-block", "this block is not closed", Safety.UNSAFE)
E0103 = _code("E0103", "unknown-statement", "unknown statement")
E0104 = _code("E0104", "unknown-unit", "unknown unit, or a magnitude without one", Safety.DISPLAY)
E0105 = _code("E0105", "no-alternatives", "a `choose` needs an alternative")
E0106 = _code("E0106", "unclosed-string", "string is not closed on its line", Safety.UNSAFE)
E0107 = _code("E0107", "reserved-word", "reserved word used as a name", Safety.UNSAFE)
E0108 = _code("E0108", "foreign-operator", "an operator from another language", Safety.SAFE)
E0109 = _code("E0109", "unexpected-token", "something else is expected here")
E0110 = _code("E0110", "too-large", "larger or deeper than any sensible spec")
E0111 = _code("E0111", "forbidden-character", "a control or invisible character", Safety.UNSAFE)

# ---- 02 names --------------------------------------------------------------------------------

E0201 = _code("E0201", "undefined-name", "there is no such name")
E0202 = _code("E0202", "defined-twice", "defined twice")
E0203 = _code("E0203", "import-cycle", "specs import each other in a circle")
E0204 = _code("E0204", "recursive-function", "a function calls itself")
E0205 = _code("E0205", "no-such-member", "there is no such member")
E0206 = _code("E0206", "unknown-field", "unknown field in this block")
E0207 = _code("E0207", "missing-field", "a required field is missing", Safety.DISPLAY)
E0208 = _code("E0208", "bad-input", "`--set` names no input, or its value has the wrong type")
E0209 = _code("E0209", "model-count", "a spec needs exactly one model")
E0210 = _code("E0210", "imported-statement", "an imported file may only define names")
W0201 = _code("W0201", "unused-name", "a name is never used", Safety.SAFE)
W0202 = _code("W0202", "shadowed-std", "a parameter hides a name of the file", Safety.UNSAFE)
W0203 = _code("W0203", "unpinned-model", "a model without a `revision`")
W0204 = _code(
    "W0204", "decimal-context-length", "a decimal magnitude where a length is meant", Safety.UNSAFE
)
W0205 = _code(
    "W0205", "decimal-gpu-memory", "decimal GPU memory next to binary sizes", Safety.UNSAFE
)

# ---- 03 types and units ----------------------------------------------------------------------

E0301 = _code("E0301", "mixed-dimensions", "different dimensions compared or added")
E0302 = _code("E0302", "wrong-dimension", "a value has the wrong dimension for its field")
E0303 = _code("E0303", "wrong-arguments", "wrong number or names of arguments")
E0304 = _code("E0304", "not-a-truth-value", "a truth value is needed here")
E0305 = _code("E0305", "impossible-word", "`is` with a word that the left side can never be")
E0306 = _code("E0306", "ratio-out-of-range", "a ratio is out of its range", Safety.UNSAFE)
E0307 = _code("E0307", "backward-range", "a range runs backwards", Safety.SAFE)
E0308 = _code("E0308", "no-value", "an expression has no value: division by zero, least of none")
E0309 = _code("E0309", "impossible-value", "a value that its place cannot take")

# ---- 04 model and edits ----------------------------------------------------------------------

E0401 = _code("E0401", "unknown-family", "unknown model family")
E0402 = _code("E0402", "no-such-layer", "a layer index past the end of the model")
E0403 = _code("E0403", "no-such-site", "this model has no such site")
E0404 = _code("E0404", "overlapping-choices", "two choices for one site share layers")
E0405 = _code("E0405", "too-many-experts", "keeps more experts than the layer has", Safety.DISPLAY)
E0406 = _code(
    "E0406", "too-few-experts", "keeps fewer experts than the router activates", Safety.DISPLAY
)
E0407 = _code(
    "E0407", "impossible-width", "a width that the kernel or quantisation cannot use", Safety.UNSAFE
)
E0408 = _code(
    "E0408", "impossible-window", "a window that does not shorten what a layer sees", Safety.DISPLAY
)
E0409 = _code("E0409", "impossible-kv-heads", "KV heads must divide query heads", Safety.UNSAFE)
# E0410 was tied-weights: no edit cuts embeddings. Numbers are never reused.
E0411 = _code("E0411", "checkpoint-mismatch", "the checkpoint does not match its config")
E0412 = _code("E0412", "revision-mismatch", "the pinned revision differs from what is on disk")
# E0413 was unread-tensor: `noop` takes every tensor of its site away, norms included.
E0414 = _code("E0414", "too-many-candidates", "more candidates than a plan can search")
E0415 = _code("E0415", "ambiguous-candidate", "alternatives that a plan could not tell apart")
E0416 = _code("E0416", "beyond-context", "a length is beyond the model's context")
E0417 = _code("E0417", "indivisible-experts", "experts that GPUs cannot share, each whole ones")
E0418 = _code("E0418", "uneven-sharing", "layers that the GPUs of a machine cannot share")
E0421 = _code("E0421", "packed-experts", "packed experts cannot be averaged", Safety.DISPLAY)
E0422 = _code("E0422", "fixed-rope", "a rotary embedding without a YaRN factor")
E0423 = _code("E0423", "no-linear-block", "a block that cannot become linear", Safety.DISPLAY)
E0424 = _code("E0424", "plan-of-another-model", "a plan that is named has other layers or sites")

# ---- 05 requirements -------------------------------------------------------------------------

E0501 = _code("E0501", "failed-expectation", "an `expect` does not hold")
E0502 = _code("E0502", "not-linear", "an expression is not linear in the choices")
E0503 = _code("E0503", "constant-requirement", "a requirement is false whatever is chosen")
E0504 = _code("E0504", "objective-count", "a spec needs exactly one objective")
E0505 = _code("E0505", "strict-comparison", "a strict comparison between measured values")
E0506 = _code("E0506", "does-not-fit", "a scenario does not fit on its machine, whatever is chosen")
E0507 = _code("E0507", "metric-needs-scenario", "a metric needs a scenario")
E0508 = _code("E0508", "expect-on-choices", "an `expect` cannot ask about the result")
E0509 = _code("E0509", "constant-objective", "this objective does not depend on the choices")

# ---- 06 solving ------------------------------------------------------------------------------

E0601 = _code("E0601", "infeasible", "no architecture satisfies all of the requirements")
E0602 = _code("E0602", "no-alternative-left", "a layer has no legal alternative left")
E0603 = _code("E0603", "unproven-answer", "the solver stopped before it proved its answer")
E0604 = _code("E0604", "failed-verification", "recomputed costs differ from the solver's")

# ---- 07 scores and library -------------------------------------------------------------------

E0701 = _code("E0701", "missing-measurements", "measurements are missing from the library")
E0702 = _code("E0702", "score-not-finite", "a score is not finite")
# E0703 was other-measurement: entries are keyed by how they were measured, so there is none.
E0704 = _code("E0704", "damage-of-keep", "changing nothing does damage: the measurement is broken")
E0705 = _code("E0705", "invisible-edit", "no score in the objective can see this edit")
E0706 = _code("E0706", "not-enough-text", "a dataset has too little text for its samples")
E0707 = _code("E0707", "bad-table", "a `--table` gives what is no score or cost of the spec")
E0708 = _code("E0708", "nothing-to-time", "no scenario can be timed on this machine")
W0701 = _code("W0701", "empty-selection", "a selection without layers")
W0702 = _code("W0702", "selection-covers-everything", "a `where` that is always true", Safety.SAFE)
W0703 = _code("W0703", "no-op-window", "a window that saves nothing in a scenario")
W0704 = _code("W0704", "dominated-alternative", "another alternative is both faster and better")
W0705 = _code("W0705", "slack-requirement", "a requirement that cannot bind")
W0706 = _code("W0706", "tight-requirement", "slack smaller than the noise of the measurement")
W0707 = _code("W0707", "duplicate-alternative", "an alternative that restates another", Safety.SAFE)
W0708 = _code(
    "W0708", "missing-keep", "a `choose` that forces every layer to change", Safety.UNSAFE
)
W0709 = _code("W0709", "single-scenario", "throughput required in one scenario, memory in none")
W0710 = _code("W0710", "scattered-acts", "statements of one act are spread over the file")
W0711 = _code(
    "W0711", "unbalanced-experts", "expert counts that the GPUs cannot share evenly", Safety.UNSAFE
)
W0712 = _code("W0712", "short-calibration", "a dataset shorter than the window it judges")
W0713 = _code("W0713", "train-test-overlap", "training on a dataset that a score measures with")
W0714 = _code("W0714", "magic-number", "the same literal in three requirements", Safety.UNSAFE)
W0715 = _code("W0715", "blind-score", "one of several scores cannot see an edit")
W0716 = _code(
    "W0716", "vacuous-memory", "memory bounded where `batch = fit` fills it anyway", Safety.DISPLAY
)
W0717 = _code("W0717", "damaged-entry", "a library entry does not verify and is measured again")
W0718 = _code("W0718", "judged-on-seen-text", "the judge dataset shares text with a measurement")
W0719 = _code("W0719", "single-alternative", "a `choose` with one alternative decides nothing")
W0720 = _code("W0720", "plan-of-another-parent", "a plan that is named was made of other weights")

# ---- 08 emit and runtime ---------------------------------------------------------------------

E0801 = _code("E0801", "stale-plan", "spec, parent or library changed since the plan")
E0802 = _code("E0802", "output-exists", "the output directory exists and is not ours")
E0803 = _code("E0803", "not-enough-disk", "not enough disk for the checkpoint")
E0804 = _code("E0804", "runtime-cannot", "the runtime cannot execute this mix")
E0805 = _code("E0805", "hash-mismatch", "a written tensor's hash differs from the plan's")
E0806 = _code("E0806", "cannot-write", "cannot write the output")
E0807 = _code("E0807", "output-overlaps-input", "the output lies inside the input, or is the input")
E0808 = _code("E0808", "malformed-plan", "a plan file that cannot be read")
# W0801 was mixed-dtype-checkpoint: a child stores what its parent stores.
W0802 = _code("W0802", "kv-page-waste", "layers of different windows share KV pages poorly")
W0803 = _code("W0803", "unfrozen-router", "`recover` trains the router of pruned experts")
W0804 = _code("W0804", "no-recover", "a heavy cut without `recover`")

# ---- 09 style --------------------------------------------------------------------------------

W0901 = _code("W0901", "unused-allow", "an `allow` that silences nothing", Safety.SAFE)
W0902 = _code("W0902", "undocumented-input", "an `input` without a `##` comment")
W0903 = _code("W0903", "unlabelled-requirement", "a requirement without an `@label`", Safety.UNSAFE)
W0904 = _code("W0904", "unknown-directive", "a `# surg:` comment that means nothing")


BY_ID: Mapping[str, Code] = MappingProxyType({code.id: code for code in _codes})
"""Every code by its number."""

BY_NAME: Mapping[str, Code] = MappingProxyType({code.name: code for code in _codes})
"""Every code by its kebab name; no two share one."""

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "00": "files and resources",
        "01": "syntax",
        "02": "names",
        "03": "types and units",
        "04": "model and edits",
        "05": "requirements",
        "06": "solving",
        "07": "scores and library",
        "08": "emit and runtime",
        "09": "style",
    }
)
"""What the first two digits of a code say: the pass that finds it."""
