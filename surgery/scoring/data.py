"""Text files -> samples of exactly `length` tokens, the same ones everywhere.

In: a `Dataset` of a spec and the model's directory (for its tokenizer). Out: `Samples`, an int64
array [take, length], and `Text`, the identity of what was read. Refuses a missing or unreadable
file, a file that is neither `.jsonl` nor `.txt`, and text too short for the samples asked for,
each located at the dataset. Needs numpy and `tokenizers`, not torch. Not here: what is measured.

How samples are drawn (version 2, part of every key). Documents come in an order decided by the
seed. One that is longer than `length` gives one window at a place decided by the seed; shorter
ones are packed, each followed by the end-of-text token. Only when every document has been seen do
long ones give further windows that do not overlap the first, so that a single long `.txt` file
serves too. Order and places come from SHA-256 and not from a library's generator: they are the
same on every platform and in every version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Help, Label, Stop
from surgery.ir import Dataset, Model
from surgery.units import format_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLING = 2
"""Version of the way samples are drawn: it changes the samples, so it is part of every key.

2: a truncation or padding stored in `tokenizer.json` is ignored."""

Encode = Callable[[str], list[int]]
"""Text to token ids, without special tokens."""


class Text(Struct, frozen=True):
    """The documents of a dataset, and their SHA-256 (64 hex digits): what they say and in what
    order, not how the file writes it."""

    documents: tuple[str, ...]
    digest: str


class Samples(Struct, frozen=True):
    """`tokens` is int64 [take, length]: what every candidate is measured on."""

    tokens: NDArray[np.int64]

    @property
    def length(self) -> int:
        """Tokens per sample."""
        return int(self.tokens.shape[1])


def read_text(dataset: Dataset, folder: Path) -> Text:
    """Read a dataset's file, found relative to `folder` (the spec's).

    `.jsonl` holds one object with a string `text` per line, `.txt` is one document. Raises `Stop`
    (E0001, E0002, E0004, E0011), located at the dataset.
    """
    if dataset.kind == "hf":
        raise _stop(dataset, catalog.E0011, "datasets on a hub cannot be read yet", "this dataset")
    path = folder / dataset.location
    try:
        data = path.read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        message = f"cannot read the dataset `{dataset.location}`: {why.lower()}"
        raise _stop(dataset, catalog.E0001, message, "read here") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"`{dataset.location}` is not UTF-8 text (byte {error.start})"
        raise _stop(dataset, catalog.E0002, message, "read here") from error
    match path.suffix:
        case ".txt":
            documents: tuple[str, ...] = (text,)
        case ".jsonl":
            documents = tuple(_lines(dataset, text))
        case suffix:
            message = f"a dataset is a `.jsonl` or a `.txt` file, not `{suffix or path.name}`"
            raise _stop(dataset, catalog.E0004, message, "read here")
    return Text(documents, _digest(documents))


def _digest(documents: tuple[str, ...]) -> str:
    total = hashlib.sha256()
    for document in documents:
        # Hashes of equal length, so that no two lists of documents run together.
        total.update(hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest())
    return total.hexdigest()


def _lines(dataset: Dataset, text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = cast("object", json.loads(line))
        except (ValueError, RecursionError) as error:
            message = f"line {number} of `{dataset.location}` is not JSON"
            raise _stop(dataset, catalog.E0004, message, "read here") from error
        found = cast("dict[str, object]", entry).get("text") if isinstance(entry, dict) else None
        if not isinstance(found, str):
            message = f"line {number} of `{dataset.location}` has no string `text`"
            raise _stop(dataset, catalog.E0004, message, "read here")
        yield found


# ---- Tokenizer -------------------------------------------------------------------------------


class _Encoding(Protocol):
    ids: list[int]


class _Tokenizer(Protocol):
    def encode(self, sequence: str, *, add_special_tokens: bool) -> _Encoding: ...
    def no_truncation(self) -> None: ...
    def no_padding(self) -> None: ...


def tokenizer_digest(model: Model) -> str:
    """SHA-256 of the model's `tokenizer.json`; raises `Stop` (E0001) when there is none."""
    path = model.directory / "tokenizer.json"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Stop(
            Diagnostic(
                catalog.E0001,
                f"cannot read the tokenizer of `{model.name}`: {why}",
                subject=str(path),
                helps=(Help("put the model's `tokenizer.json` beside its `config.json`"),),
            )
        ) from error


def load_tokenizer(model: Model) -> Encode:
    """The parent's own tokenizer. Raises `Stop` (E0001, E0004)."""
    from tokenizers import Tokenizer

    tokenizer_digest(model)  # says what is wrong when the file is not there
    path = model.directory / "tokenizer.json"
    try:
        loaded = cast("_Tokenizer", Tokenizer.from_file(str(path)))
    except Exception as error:  # `tokenizers` raises plain `Exception` for a malformed file
        raise Stop(
            Diagnostic(catalog.E0004, f"not a tokenizer: {error}", subject=str(path))
        ) from error
    # The file may hold the settings of somebody's last batch, and documents are to come whole.
    loaded.no_truncation()
    loaded.no_padding()
    return lambda text: loaded.encode(text, add_special_tokens=False).ids


def end_of_text(model: Model) -> int | None:
    """The token between packed documents: the config's `eos_token_id`, the first of a list."""
    value = model.config.get("eos_token_id")
    if isinstance(value, list):
        value = next(iter(cast("list[object]", value)), None)
    return value if isinstance(value, int) else None


# ---- Sampling --------------------------------------------------------------------------------


def draw(dataset: Dataset, text: Text, encode: Encode, separator: int | None) -> Samples:
    """`take` samples of exactly `length` tokens; raises `Stop` (E0706) when there are fewer.

    Documents are tokenised one by one and only as many as are needed.
    """
    # Not above: looking into the library needs the text, and no arrays.
    import numpy as np

    drawn = _Drawing(dataset.length, dataset.seed)
    rows: list[list[int]] = []
    order = sorted(range(len(text.documents)), key=lambda i: _draw_bits(dataset.seed, i, "order"))
    for index in order:
        rows.extend(drawn.add(index, encode(text.documents[index]), separator))
        if len(rows) >= dataset.take:
            break
    else:
        rows.extend(drawn.rest(dataset.take - len(rows)))
    if len(rows) < dataset.take:
        raise _too_short(dataset, text, len(rows))
    return Samples(np.asarray(rows[: dataset.take], dtype=np.int64))


class _Drawing:
    """Windows of long documents, one each at first, and short documents packed end to end."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self._packed: list[int] = []
        self._more: list[list[list[int]]] = []

    def add(self, index: int, tokens: list[int], separator: int | None) -> Iterator[list[int]]:
        """The samples that this document completes: at most one window, or what packing fills."""
        length = self.length
        if len(tokens) >= length:
            slots, slack = divmod(len(tokens), length)
            start = _draw_bits(self.seed, index, "offset") % (slack + 1)
            windows = [tokens[start + i * length :][:length] for i in range(slots)]
            yield windows.pop(_draw_bits(self.seed, index, "slot") % slots)
            self._more.append(windows)
            return
        if tokens:
            self._packed.extend(tokens if separator is None else [*tokens, separator])
        while len(self._packed) >= length:
            yield self._packed[:length]
            del self._packed[:length]

    def rest(self, count: int) -> list[list[int]]:
        """Up to `count` further windows: one more of every long document in turn."""
        found: list[list[int]] = []
        while len(found) < count and any(self._more):
            found.extend(windows.pop(0) for windows in self._more if windows)
        return found[: max(count, 0)]


def _draw_bits(seed: int, index: int, use: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{use}/{seed}/{index}".encode()).digest()[:8])


# ---- Findings --------------------------------------------------------------------------------


def _stop(dataset: Dataset, code: Code, message: str, label: str) -> Stop:
    return Stop(Diagnostic(code, message, labels=(Label(dataset.span, label, primary=True),)))


def _too_short(dataset: Dataset, text: Text, found: int) -> Stop:
    length = format_tokens(dataset.length)
    documents = len(text.documents)
    message = (
        f"the dataset `{dataset.name}` has text for {found} of {dataset.take} samples "
        f"of {length} tok"
    )
    fewer = f"take {found} samples, shorten them, or add text"
    way_out = fewer if found else "shorten `length`, or add text"
    return Stop(
        Diagnostic(
            catalog.E0706,
            message,
            labels=(Label(dataset.span, "asks for more than there is", primary=True),),
            notes=(
                f"`{dataset.location}` holds {documents} document{'s' if documents != 1 else ''}",
            ),
            helps=(Help(way_out),),
        )
    )
