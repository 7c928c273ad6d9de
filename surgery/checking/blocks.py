"""The fields of blocks, as data: which there are, and what each may hold.

In: nothing. Out: tables, as `tables.py` has them for everything else that has a name.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class FieldRule(Struct, frozen=True):
    """One field of a block.

    `type` as in `values.py`; `words` are values that are words; `many` asks for a list.
    Numbers must be constants, `count` and `tok` whole, and all at least `least`.
    """

    name: str
    type: str
    doc: str
    required: bool = False
    words: tuple[str, ...] = ()
    many: bool = False
    least: int = 1
    example: str = ""
    instead: str = ""
    """The field that can stand in its place, but not beside it."""


_FREEZE = FieldRule(
    "freeze",
    "",
    "what training must not change",
    words=("experts", "router", "attention", "ffn", "embeddings", "norms"),
    many=True,
)

BLOCKS: Mapping[str, tuple[FieldRule, ...]] = {
    "local model": (),
    "hf model": (FieldRule("revision", "text", "commit that is wanted"),),
    "gguf model": (FieldRule("sha256", "text", "digest of the file"),),
    "wheel model": (FieldRule("sha256", "text", "digest of the GGUF file inside"),),
    "device": (
        FieldRule("memory", "bytes", "memory of one GPU", required=True, example="80GB"),
        FieldRule(
            "bandwidth",
            "rate",
            "bytes per second of its memory",
            required=True,
            example="3.35TB / 1 s",
        ),
        FieldRule("compute", "compute", "dense BF16 operations per second"),
        FieldRule("compute_fp8", "compute", "dense FP8 operations per second, if it has them"),
        FieldRule("compute_fp4", "compute", "dense FP4 operations per second, if it has them"),
        FieldRule("interconnect", "rate", "to the other GPUs, both directions together"),
        FieldRule("power", "power", "most that one GPU draws"),
    ),
    "machine": (
        FieldRule("tensor_parallel", "count", "GPUs that share every layer"),
        FieldRule("pipeline_parallel", "count", "groups of GPUs that each have some of the layers"),
        FieldRule("data_parallel", "count", "copies of the model, each with requests of its own"),
        FieldRule(
            "expert_parallel", "count", "GPUs that share the experts, each holding whole ones"
        ),
        FieldRule("memory", "bytes", "memory of one GPU"),
        FieldRule("bandwidth", "rate", "memory bandwidth of one GPU"),
        FieldRule("compute", "compute", "dense BF16 operations per second of one GPU"),
        FieldRule("compute_fp8", "compute", "dense FP8 operations per second of one GPU"),
        FieldRule("compute_fp4", "compute", "dense FP4 operations per second of one GPU"),
        FieldRule("interconnect", "rate", "between GPUs, both directions together"),
        FieldRule("power", "power", "most that one GPU draws"),
        FieldRule("price", "price", "of one GPU for an hour, in a currency of your own", least=0),
    ),
    "scenario": (
        FieldRule("prefill", "tok", "tokens in", required=True, example="4K tok", instead="trace"),
        FieldRule("decode", "tok", "tokens out", required=True, example="4K tok", instead="trace"),
        FieldRule(
            "batch",
            "count",
            "sequences at once",
            required=True,
            words=("fit",),
            example="fit",
            instead="clients",
        ),
        FieldRule("trace", "text", "a file of recorded requests, CSV or JSON lines"),
        FieldRule("clients", "count", "each asks again when it is answered; as many wait as must"),
        FieldRule("verbosity", "ratio", "tokens of the child's answers by the parent's", least=0),
        FieldRule(
            "skew", "factor", "how unequally often experts are chosen: Zipf's exponent", least=0
        ),
        FieldRule(
            "routing",
            "dataset",
            "text on which the parent shows how often it chooses each expert",
            instead="skew",
        ),
        FieldRule("engine", "", "who serves it", words=("vllm", "sglang", "torch", "ideal")),
    ),
    "dataset": (
        FieldRule("take", "count", "number of samples", required=True, example="256"),
        FieldRule("length", "tok", "tokens per sample", required=True, example="1K tok"),
        FieldRule("seed", "count", "decides which samples", least=0),
    ),
    "score": (FieldRule("tail", "tok", "count only the last so many tokens of each sample"),),
    "apply kv_cache": (
        FieldRule("dtype", "", "how K and V are stored", required=True, words=("fp8_e4m3", "bf16")),
        FieldRule("scales", "scales", "how they are scaled", example="kv.max_calibrated(text)"),
    ),
    "apply router": (FieldRule("active", "count", "experts per token", required=True),),
    "apply rope": (
        FieldRule("factor", "factor", "of YaRN, in all layers", required=True, example="64"),
    ),
    "distill": (
        FieldRule("teacher", "model", "whose outputs to match", required=True, example="parent"),
        FieldRule("data", "dataset", "what to train on", required=True),
        FieldRule("tokens", "tok", "how much", required=True, example="50M tok"),
        FieldRule("length", "tok", "tokens per sample", required=True, example="1K tok"),
        FieldRule("loss", "divergence", "what to minimise", required=True, example="kl(logits)"),
        _FREEZE,
    ),
    "reinforce": (
        FieldRule(
            "effort",
            "",
            "how long to think",
            required=True,
            words=("low", "medium", "high"),
            many=True,
        ),
        FieldRule("tasks", "text", "kinds of problem", required=True, many=True),
        FieldRule("length_penalty", "ratio", "price of a long answer", least=0),
        _FREEZE,
    ),
    "average": (FieldRule("of", "step", "steps whose weights to average", True, many=True),),
    "emit checkpoint": (
        FieldRule("shard", "bytes", "largest size of one file"),
        FieldRule("judge", "dataset", "text that the finished child is judged on"),
        FieldRule(
            "kv_scheme",
            "",
            "the config tells engines of FP8 K and V, in the words of ModelOpt",
            words=("modelopt",),
        ),
    ),
    "emit runtime": (
        FieldRule("backend", "", "what executes it", words=("triton",)),
        FieldRule("context", "tok", "longest sequence to serve"),
    ),
}
"""Fields by kind of block."""

APPLY_SITES = ("kv_cache", "router", "rope")
STEPS = ("distill", "reinforce", "average")
EMITS = ("checkpoint", "runtime")
