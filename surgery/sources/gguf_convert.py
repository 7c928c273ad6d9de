"""GGUF -> a safetensors checkpoint as Transformers would have saved it. Needs torch.

In: a GGUF file of the llama architecture. Out: `model.safetensors` (BF16), `config.json`,
`generation_config.json` and the tokenizer in a directory. Transformers dequantises and undoes
GGUF's permutation of Q and K. Refuses, as `Stop`: what is no GGUF (E0004), other architectures
(E0401), and rotary factors, which Transformers drops without a word (E0004).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import transformers
from safetensors import torch as safetensors

from surgery import catalog
from surgery.diagnostics import Diagnostic, Stop
from surgery.tensors.headers import SINGLE
from surgery.untrusted import malformed, shown

_ARCHITECTURES = ("llama",)
_ROPE_FACTORS = "rope_freqs.weight"


class _Config(Protocol):
    architectures: list[str]
    dtype: torch.dtype
    tie_word_embeddings: bool
    rms_norm_eps: float

    def save_pretrained(self, save_directory: str) -> None: ...


class _Savable(Protocol):
    def save_pretrained(self, save_directory: str) -> object: ...


class _Model(Protocol):
    config: _Config
    generation_config: _Savable

    def state_dict(self) -> Mapping[str, torch.Tensor]: ...


def convert(path: Path, directory: Path) -> None:
    """Write the checkpoint of the GGUF file `path` into the empty `directory`."""
    _check(path)
    # Progress bars are for terminals; what goes wrong comes as an exception.
    with redirect_stderr(sys.stderr if sys.stderr.isatty() else io.StringIO()):
        try:
            tokenizer, model = _load(path)
        except (LookupError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            # What Transformers raises on fields that are missing or of another kind.
            reason = shown(f"{type(error).__name__}: {error}")
            message = f"Transformers cannot read `{shown(path.name)}`: {reason}"
            raise malformed(str(path), message) from error
    config = model.config
    # It says "quantised with gguf", which the saved weights no longer are.
    del cast("Any", config).quantization_config
    for leftover in ("_model_name_or_path", "_name_or_path"):
        cast("Any", config).__dict__.pop(leftover, None)
    config.architectures = [type(model).__name__]
    config.dtype = torch.bfloat16
    # GGUF keeps float32: print the short number that was meant.
    config.rms_norm_eps = float(str(np.float32(config.rms_norm_eps)))
    config.save_pretrained(str(directory))
    model.generation_config.save_pretrained(str(directory))
    tokenizer.save_pretrained(str(directory))
    weights = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if not (config.tie_word_embeddings and name == "lm_head.weight")
    }
    cast("Any", safetensors).save_file(weights, directory / SINGLE, metadata={"format": "pt"})
    # The library leaves 0600 behind.
    (directory / SINGLE).chmod((directory / "config.json").stat().st_mode & 0o777)


def _load(path: Path) -> tuple[_Savable, _Model]:
    logging = cast("Any", transformers.utils.logging)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    folder, name = str(path.parent), path.name
    tokenizers, models = cast("Any", transformers.AutoTokenizer), cast("Any", transformers)
    tokenizer = cast("_Savable", tokenizers.from_pretrained(folder, gguf_file=name))
    load = models.AutoModelForCausalLM.from_pretrained
    return tokenizer, cast("_Model", load(folder, gguf_file=name, dtype=torch.float32))


def _check(path: Path) -> None:
    """Read the GGUF's own description before anything is built from it."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise malformed(str(path), f"`{shown(path.name)}` is not a GGUF file")
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        field = reader.fields.get("general.architecture")
        architecture = str(field.contents()) if field is not None else "none"
        names = {tensor.name for tensor in reader.tensors}
    except (LookupError, ValueError, TypeError, OverflowError) as error:
        message = f"`{shown(path.name)}` is damaged: {shown(str(error))}"
        raise malformed(str(path), message) from error
    if architecture not in _ARCHITECTURES:
        message = f"the GGUF architecture `{shown(architecture)}` cannot be imported"
        note = f"supported: {', '.join(_ARCHITECTURES)}"
        raise Stop(Diagnostic(catalog.E0401, message, subject=str(path), notes=(note,)))
    if _ROPE_FACTORS in names:
        message = f"`{shown(path.name)}` has rotary factors, which the import would lose"
        raise malformed(str(path), message, help="use the model's safetensors instead")
