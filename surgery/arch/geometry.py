"""From a `config.json` to the sizes of a model.

In: a `Family` and a parsed `config.json`. Out: `Geometry`: whole-model facts and one `Layer` per
layer. Refuses, as `Stop` E0411 that lists every problem at once: numbers that are missing, not
whole or absurd, heads that do not divide, `layer_types` of the wrong length or with unknown
words, windows of 0, unsupported quantisation. Not here: tensors (`expected.py`), and whether the
checkpoint agrees (`passes/resolve.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct, field

from surgery import catalog
from surgery.arch.cache import only_cache
from surgery.arch.family import PER_LAYER, Family, families, holds, product
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import Attention, Experts, Ffn, Layer, Site
from surgery.untrusted import as_list, as_object, shown

Config: TypeAlias = Mapping[str, object]

MAX_LAYERS = 4096
MAX_FACT = 2**32
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


class Geometry(Struct, frozen=True):
    """The sizes of one model. `dtype` is `None` where the config names none."""

    hidden: int
    vocab: int
    context: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    dtype: str | None
    conditions: frozenset[str]
    """Flags that are set, and the quantisation method; what templates' `when` looks at."""
    layers: tuple[Layer, ...]


def family_of(config: Config, subject: str = "config.json") -> Family:
    """The family of `config`; raises `Stop` (E0401) where there is none."""
    model_type = config.get("model_type")
    for family in families():
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(name for family in families() for name in family.model_types))
    name = f"the model family `{shown(model_type)}`" if isinstance(model_type, str) else None
    message = f"{name} is not supported" if name else "config.json names no `model_type`"
    note = f"supported values of `model_type`: {known}"
    help = Help("a family is a data file: see surgery/arch/llama.toml for an example")
    raise Stop(Diagnostic(catalog.E0401, message, subject=subject, notes=(note,), helps=(help,)))


def layers(family: Family, config: Config, subject: str = "config.json") -> tuple[Layer, ...]:
    """Every layer's blocks; see `geometry`."""
    return geometry(family, config, subject).layers


def renormalised(family: Family, config: Config) -> bool:
    """Whether the weights of the chosen experts are divided by their sum."""
    if family.router is None:
        raise ValueError(f"the family {family.name} has no router")
    return holds(family.router.renormalised, _Reading(family, config).conditions())


def geometry(family: Family, config: Config, subject: str = "config.json") -> Geometry:
    """Sizes and layers of the model that `config` describes.

    Raises `Stop` (E0411) with every problem as a note; `subject` names the file.
    """
    reading = _Reading(family, config)
    made = reading.geometry()
    if made is None or reading.problems:
        first, *others = dict.fromkeys(reading.problems)
        count = f"{len(others) + 1} problems" if others else "a problem"
        message = f"config.json has {count}: {first}"
        helps = (Help("fetch the config again, or correct it by hand"),)
        notes = tuple(others)
        raise Stop(Diagnostic(catalog.E0411, message, subject=subject, notes=notes, helps=helps))
    return made


class _Reading(Struct):
    """One pass over a config, gathering problems instead of stopping at the first."""

    family: Family
    config: Config
    problems: list[str] = field(default_factory=list[str])

    def geometry(self) -> Geometry | None:
        family, config = self.family, self.config
        facts = self.facts(config, "")
        conditions = self.conditions()
        dtype = self.dtype()
        self.refuse_unread()
        self.check_rope()
        count = facts.get("layers")
        if count is not None and count > MAX_LAYERS:
            self.problems.append(f"{count} layers; at most {MAX_LAYERS} are read")
            return None
        # Read even where a fact is missing, so that all problems are found at once.
        blocks = None if count is None else self.blocks(count)
        windows = None if count is None else self.windows(count, blocks, conditions)
        dense = None if count is None else self.dense(count)
        if windows is None or dense is None or facts.keys() != family.facts.keys():
            return None
        return Geometry(
            **{key: facts[key] for key in ("hidden", "vocab", "context")},
            **{key: facts[key] for key in ("heads", "kv_heads", "head_dim")},
            tied="tied" in conditions,
            dtype=dtype,
            conditions=conditions,
            layers=self.layers(facts, conditions, windows, dense, blocks),
        )

    def facts(self, config: Config, where: str) -> dict[str, int]:
        """The facts that could be read; the others are problems. `where` begins messages."""
        facts: dict[str, int] = {}
        for name, fact in self.family.facts.items():
            key = next((key for key in fact.keys if config.get(key) is not None), None)
            if key is None and fact.default is None:
                self.problems.append(f"{where}`{fact.keys[0]}` is missing")
            elif key is None:
                self.default(name, facts, where)
            else:
                value = config[key]
                if type(value) is int and 1 <= value <= MAX_FACT:
                    facts[name] = value
                else:
                    limits = f"a whole number from 1 to {MAX_FACT}"
                    self.problems.append(f"{where}`{key}` is {_brief(value)}, not {limits}")
        return facts

    def default(self, name: str, facts: dict[str, int], where: str) -> None:
        text = self.family.facts[name].default or ""
        try:
            facts[name] = product(text, facts)
        except KeyError:
            pass  # What it is made of is already a problem.
        except ValueError:
            self.problems.append(f"{where}{name} is not given, and {text} is not whole")

    def conditions(self) -> frozenset[str]:
        found: set[str] = set()
        for name, flag in self.family.flags.items():
            value = self.config.get(flag.key)
            if value is True or (value is None and flag.default):
                found.add(name)
            elif value is not None and value is not False:
                self.problems.append(f"`{flag.key}` is {_brief(value)}, not true or false")
        quantisation = self.config.get("quantization_config")
        if quantisation is not None and not only_cache(quantisation):
            table = as_object(quantisation)
            method = table.get("quant_method") if table is not None else None
            if isinstance(method, str) and method in self.family.quantisations:
                found.add(method)
            else:
                known = ", ".join(self.family.quantisations) or "none"
                text = f"quantisation {_brief(method)} is not supported for {self.family.name}"
                self.problems.append(f"{text} (supported: {known})")
        return frozenset(found)

    def dtype(self) -> str | None:
        value = self.config.get("dtype", self.config.get("torch_dtype"))
        if value is None:
            return None
        name = value.removeprefix("torch.") if isinstance(value, str) else ""
        if name not in _DTYPES:
            known = ", ".join(_DTYPES)
            self.problems.append(f"dtype {_brief(value)} is not supported (supported: {known})")
        return _DTYPES.get(name)

    def refuse_unread(self) -> None:
        for key in self.family.unread:
            if self.config.get(key):
                text = f"`{key}` changes layers in a way that {self.family.name} here cannot read"
                self.problems.append(text)

    def check_rope(self) -> None:
        """Either the old keys or `rope_parameters`: passed on unread, so only kinds matter."""
        for key in ("rope_parameters", "rope_scaling"):
            if self.config.get(key) is not None and as_object(self.config[key]) is None:
                self.problems.append(f"`{key}` is {_brief(self.config[key])}, not an object")
        theta = self.config.get("rope_theta")
        if theta is not None and (type(theta) not in (int, float) or not theta > 0):  # pyright: ignore[reportOperatorIssue]
            self.problems.append(f"`rope_theta` is {_brief(theta)}, not a positive number")

    # ---- Layers --------------------------------------------------------------------------

    def layers(
        self,
        facts: dict[str, int],
        conditions: frozenset[str],
        windows: tuple[int | None, ...],
        dense: frozenset[int],
        blocks: list[dict[str, object]] | None,
    ) -> tuple[Layer, ...]:
        made: list[Layer] = []
        keys = self.family.blocks
        for index in range(facts["layers"]):
            own, gone, sinks = facts, (False, False), 0
            where = ""
            if blocks is not None and keys is not None:
                where, table = f"layer {index}: ", blocks[index]
                read = self.facts(self.overridden(table), where)
                own = facts | {name: read[name] for name in PER_LAYER if name in read}
                gone = (table.get(keys.no_attention) is True, table.get(keys.no_mlp) is True)
                sinks = self.sinks(table, windows[index], where)
            self.check_layer(own, conditions, where)
            attention = Attention(
                own["heads"], own["kv_heads"], own["head_dim"], windows[index], sinks=sinks
            )
            mlp = Ffn(own["dense_width" if index in dense else "width"])
            if self.family.mlp is Site.EXPERTS and index not in dense:
                mlp = Experts(own["experts"], own["active"], own["width"])
            made.append(Layer(index, None if gone[0] else attention, None if gone[1] else mlp))
        return tuple(made)

    def sinks(self, table: Mapping[str, object], window: int | None, where: str) -> int:
        """The first tokens that the window of a layer leaves in sight."""
        keys = self.family.blocks
        value = table.get(keys.sinks, 0) if keys is not None and keys.sinks is not None else 0
        if type(value) is int and (0 <= value <= MAX_FACT) and (value == 0 or window is not None):
            return value
        name = keys.sinks if keys is not None else ""
        self.problems.append(f"{where}`{name}` is {_brief(value)}, not a number beside a window")
        return 0

    def overridden(self, table: Mapping[str, object]) -> Config:
        """The config of a layer: where its block gives a fact, no other key of that fact counts."""
        given = {
            key
            for fact in self.family.facts.values()
            if any(table.get(key) is not None for key in fact.keys)
            for key in fact.keys
        }
        return {k: v for k, v in self.config.items() if k not in given} | dict(table)

    def dense(self, count: int) -> frozenset[int]:
        """The layers that have a dense FFN where others have experts."""
        keys = self.family.dense
        if keys is None:
            return frozenset()
        listed, step = as_list(self.config.get(keys.listed) or []), self.config.get(keys.step, 1)
        if listed is None or not all(type(n) is int and 0 <= n < count for n in listed):
            self.problems.append(f"`{keys.listed}` is not a list of layers from 0 to {count - 1}")
            listed = []
        if type(step) is not int or not 1 <= step <= MAX_FACT:
            self.problems.append(f"`{keys.step}` is {_brief(step)}, not a whole number from 1")
            step = 1
        return frozenset(n for n in range(count) if n in listed or (n + 1) % step)

    def check_layer(self, facts: dict[str, int], conditions: frozenset[str], where: str) -> None:
        heads, kv_heads = facts["heads"], facts["kv_heads"]
        if heads % kv_heads:
            text = f"{heads} attention heads are not divisible by {kv_heads} KV heads"
            self.problems.append(where + text)
        if self.family.mlp is Site.EXPERTS and facts["active"] > facts["experts"]:
            text = f"{facts['active']} experts per token, but only {facts['experts']} experts"
            self.problems.append(where + text)
        if "mxfp4" in conditions:
            for name in ("hidden", "width"):
                if facts[name] % 32:
                    text = f"{name} {facts[name]} is no multiple of 32, an MXFP4 block"
                    self.problems.append(where + text)

    def blocks(self, count: int) -> list[dict[str, object]] | None:
        """Per-layer overrides, one per layer, or `None`."""
        keys = self.family.blocks
        if keys is None or self.config.get(keys.key) is None:
            return None
        key, flags = keys.key, (keys.no_attention, keys.no_mlp)
        facts = self.family.facts
        known = {key for name in PER_LAYER if name in facts for key in facts[name].keys}
        if self.family.windows is not None:
            known.add(self.family.windows.size)
        known |= {keys.sinks} if keys.sinks else set()
        items = [as_object(item) for item in as_list(self.config[key]) or []]
        tables = [item for item in items if item is not None]
        if len(tables) != count or len(items) != count:
            self.problems.append(f"`{key}` is not a list of {count} objects, one per layer")
            return None
        for index, table in enumerate(tables):
            for name in sorted(table.keys() - known - set(flags)):
                self.problems.append(f"layer {index}: unknown `{shown(name)}` in `{key}`")
            for name in flags:
                if table.get(name) not in (None, True, False):
                    text = f"layer {index}: `{name}` is {_brief(table[name])}, not true or false"
                    self.problems.append(text)
        return tables

    def windows(
        self, count: int, blocks: list[dict[str, object]] | None, conditions: frozenset[str]
    ) -> tuple[int | None, ...]:
        """The window of every layer; `None` is full attention."""
        keys = self.family.windows
        if keys is None:
            return (None,) * count
        types = self.layer_types(count) if keys.types else (None,) * count
        common = self.config.get(keys.size) if holds(keys.when, conditions) else None
        if keys.types is None and blocks is not None:
            common = None  # Without a list of words, blocks have the last one.
        made: list[int | None] = []
        for index, word in enumerate(types):
            table = blocks[index] if blocks is not None else {}
            value = table.get(keys.size, common)
            where = f"layer {index}: " if keys.size in table else ""
            if value is not None and (type(value) is not int or not 1 <= value <= MAX_FACT):
                self.problems.append(
                    f"{where}`{keys.size}` is {_brief(value)}, not a positive number of tokens"
                )
            if word is None:
                made.append(value if type(value) is int else None)
                continue
            if word == keys.sliding and value is None:
                text = f"layer {index} has {keys.sliding}, but `{keys.size}` is null"
                self.problems.append(text)
            if word == keys.full and keys.size in table and value is not None:
                text = f"{where}`{keys.size}` is {_brief(value)}, but it has {keys.full}"
                self.problems.append(text)
            made.append(value if word == keys.sliding and type(value) is int else None)
        return tuple(made)

    def layer_types(self, count: int) -> tuple[str, ...]:
        keys = self.family.windows
        assert keys is not None
        assert keys.types is not None
        value = self.config.get(keys.types)
        if value is None:
            return tuple(keys.repeat[index % len(keys.repeat)] for index in range(count))
        words = as_list(value)
        if words is None or len(words) != count:
            have = "not a list" if words is None else f"a list of {len(words)}"
            self.problems.append(f"`{keys.types}` is {have}, but the model has {count} layers")
            return (keys.full,) * count
        for word in words:
            if word not in (keys.full, keys.sliding):
                text = f"`{keys.types}` has {_brief(word)}; known: {keys.full}, {keys.sliding}"
                self.problems.append(text)
        return tuple(str(word) for word in words)


def _brief(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f'"{shown(value)}"'
    return shown(str(value)) if isinstance(value, int | float) else f"a {type(value).__name__}"
