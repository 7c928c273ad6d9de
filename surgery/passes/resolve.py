"""Spec -> Model: fetch the parent, read its config and its safetensors headers.

In: a `Spec`, a cache directory. Out: `Model`, whose `files` are empty when the directory holds
only a `config.json`. Refuses what cannot be fetched (E0001, E0005), malformed files (E0004),
unknown families (E0401), configs and checkpoints that contradict themselves or each other
(E0411), and content other than what the spec pins (E0412). Not here: how a source is fetched
(`sources/`), what a family has (`arch/`).

Weights are hashed and otherwise left alone: the first run on a model reads all of their bytes,
later ones take the hashes from the cache (`tensors/digest.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec.structs import replace

from surgery import catalog
from surgery.arch import Family, Geometry, family_of, geometry, is_ignored, tensors_of
from surgery.arch.cache import is_scale
from surgery.diagnostics import Diagnostic, Help, Label, Sink, Stop
from surgery.ir import Model, ModelDecl, Spec, TensorSpec
from surgery.sources import REPIN, Fetched, fetch, known
from surgery.tensors.digest import known_digests, model_digest, stamps, tensor_digests
from surgery.tensors.headers import Checkpoint, Stored, inside, open_checkpoint
from surgery.untrusted import as_object, malformed, parse_json, read_capped, shown

CONFIG = "config.json"
MAX_CONFIG = 16 * 2**20
_SHOW = 5
"""How many differences of each kind a message lists."""

_IN_SPEC = frozenset({"E0001", "E0005", "E0401", "E0412"})
"""Findings that the declaration is to blame for; the others are about a file."""

_HERE = {"E0401": "its `config.json` says so", "E0412": "pinned to something else"}
"""What the label of a finding says, where the declaration alone does not explain it."""


def run(spec: Spec, sink: Sink, cache: Path) -> Model | None:
    """The parent of `spec`; `None` when something was reported. `cache` holds what is fetched."""
    try:
        fetched = fetch(spec.model, spec.folder, cache)
        model = read_model(fetched, cache, spec.model.name)
        _check_pin(spec.model, model)
    except Stop as stop:
        sink.report(_located(stop.diagnostic, spec.model))
        return None
    return model


def glance(spec: Spec, cache: Path) -> Model | None:
    """The parent as far as a look at this machine tells: no network, no hashing, no findings.

    Its `digest` is "" when the content hashes are not in the cache. `None` where `run` would have
    to fetch, or would refuse.
    """
    fetched = known(spec.model, spec.folder, cache)
    if fetched is None:
        return None
    try:
        return read_model(fetched, cache, spec.model.name, hashing=False)
    except Stop:
        return None


def read_model(
    fetched: Fetched, cache: Path, name: str = "parent", *, hashing: bool = True
) -> Model:
    """The model in a directory; raises `Stop`. `cache` keeps content digests.

    Without `hashing`, contents that the cache does not know leave the `digest` empty.
    """
    directory = fetched.directory
    config = read_config(directory)
    subject = str(directory / CONFIG)
    family = family_of(config, subject)
    sizes = geometry(family, config, subject)
    checkpoint = open_checkpoint(directory)
    expected = tensors_of(family, sizes, sizes.layers, _stored_dtype(family, checkpoint))
    if checkpoint.tensors:
        _compare(family, sizes, expected, checkpoint)
    stored = {s.name: checkpoint.tensors[s.name] for s in expected if checkpoint.tensors}
    hashes = tensor_digests if hashing else known_digests
    before = stamps(checkpoint)
    contents = hashes(checkpoint, cache)
    return Model(
        name=name,
        source=fetched.source,
        directory=directory,
        digest="" if contents is None else model_digest(config, stored, contents),
        family=family.name,
        config=config,
        hidden=sizes.hidden,
        vocab=sizes.vocab,
        context=sizes.context,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        tied=sizes.tied,
        layers=sizes.layers,
        tensors=expected,
        files=MappingProxyType({name: tensor.file for name, tensor in stored.items()}),
        contents=MappingProxyType(dict(contents or {})),
        stamps=MappingProxyType(before if contents else {}),
    )


def read_config(directory: Path) -> Mapping[str, object]:
    """The `config.json` of `directory`, strictly read; raises `Stop` (E0001, E0004)."""
    data = read_capped(inside(directory, CONFIG), MAX_CONFIG)
    config = as_object(parse_json(data, str(directory / CONFIG), f"`{CONFIG}`"))
    if config is None:
        raise malformed(str(directory / CONFIG), f"`{CONFIG}` is not an object")
    return MappingProxyType(config)


def _stored_dtype(family: Family, checkpoint: Checkpoint) -> str | None:
    """The dtype of the weights on disk, for configs that name none."""
    for template in family.tensors:
        stored = checkpoint.tensors.get(template.name)
        if stored is not None and template.dtype is None:
            return stored.dtype
    return None


def _compare(
    family: Family,
    sizes: Geometry,
    expected: tuple[TensorSpec, ...],
    checkpoint: Checkpoint,
) -> None:
    """Raise E0411 unless the headers hold exactly the expected tensors."""
    specs = {spec.name: spec for spec in expected}
    absent = [name for name in specs if name not in checkpoint.tensors]
    others = [
        name
        for name in checkpoint.tensors
        if name not in specs
        and not is_ignored(family, sizes.conditions, name)
        and not is_scale(name)
    ]
    missing = [f"missing: `{name}`" for name in absent]
    extra = [f"unexpected: `{shown(name)}`" for name in others]
    wrong = [
        f"`{name}` is {_kind(stored)}, the config says {_kind(spec)}{_turned(stored, spec)}"
        for name, spec in specs.items()
        if (stored := checkpoint.tensors.get(name)) is not None
        and (stored.shape, stored.dtype) != (spec.shape, spec.dtype)
    ]
    parts = [
        f"{len(found)} {what}"
        for found, what in (
            (missing, "missing"),
            (extra, "unexpected"),
            (wrong, "of another shape or dtype"),
        )
        if found
    ]
    if parts:
        message = f"the tensors of the checkpoint do not match its config: {', '.join(parts)}"
        notes = tuple(line for found in (missing, extra, wrong) for line in _few(found))
        helps = (Help(_REWRITE if _foreign(absent, others) else _REFETCH),)
        subject = str(checkpoint.directory)
        raise Stop(Diagnostic(catalog.E0411, message, subject=subject, notes=notes, helps=helps))


_REFETCH = "config and weights must be of one model: fetch both again"
_REWRITE = (
    "the experts are stored in another layout than the config's: "
    "fetch both again, or load the model in Transformers and save it with `save_pretrained`"
)
_OF_EXPERTS = re.compile(r"(model\.layers\.[0-9]+\.).*\.experts\..*")


def _foreign(missing: Iterable[str], extra: Iterable[str]) -> bool:
    """Whether some layer has experts, and not as the family stores them."""
    lost = {place[1] for name in missing if (place := _OF_EXPERTS.fullmatch(name))}
    return any((place := _OF_EXPERTS.fullmatch(name)) and place[1] in lost for name in extra)


def _turned(stored: Stored, spec: TensorSpec) -> str:
    """Says it where the sizes are right and in another order."""
    if stored.dtype == spec.dtype and sorted(stored.shape) == sorted(spec.shape):
        return ": the same sizes in another order"
    return ""


def _few(found: list[str]) -> list[str]:
    more = len(found) - _SHOW
    return [*found[:_SHOW], f"and {more} more"] if more > 1 else found


def _kind(tensor: Stored | TensorSpec) -> str:
    return f"{tensor.dtype} [{', '.join(str(size) for size in tensor.shape)}]"


def _check_pin(decl: ModelDecl, model: Model) -> None:
    """For gguf and wheel the pin is the file's hash, checked where it is fetched."""
    if decl.kind in ("local", "hf") and decl.sha256 not in (None, model.digest):
        message = f"the model `{decl.location}` is not the one that the spec pins"
        notes = (f"pinned: {decl.sha256}", f"here:   {model.digest}")
        helps = (Help(REPIN),)
        raise Stop(Diagnostic(catalog.E0412, message, notes=notes, helps=helps))


def _located(found: Diagnostic, decl: ModelDecl) -> Diagnostic:
    if found.code.id not in _IN_SPEC or found.labels:
        return found
    here = _HERE.get(found.code.id, f"the model `{decl.name}` is declared here")
    label = Label(decl.span, here, primary=True)
    return replace(found, labels=(label,))
