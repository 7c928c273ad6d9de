"""`runtime.json` is strict in what it says and in what it reads, and needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emit_fixtures import FFN, MIXED_LLAMA, bench, prepare

from surgery_runtime import schema
from surgery_runtime.schema import Attention, Dtypes, Experts, Ffn, Layer, Runtime

__all__ = ["bench"]

RUNTIME = Runtime(
    checkpoint="checkpoint",
    model_type="gpt_oss_puzzle",
    decision="ab" * 32,
    backend=None,
    context=1024,
    hidden=64,
    vocab=257,
    tied=False,
    dtypes=Dtypes("BF16", "MXFP4", "BF16"),
    layers=(
        Layer(Attention(4, 2, 16, 8), Experts(8, 2, 32)),
        Layer(None, Ffn(128)),
        Layer(Attention(4, 4, 16, None), None),
    ),
)


def edited(change: Callable[[Any], object]) -> str:
    root = json.loads(RUNTIME.to_json())
    change(root)
    return json.dumps(root)


def test_text_reads_back_and_is_canonical() -> None:
    text = RUNTIME.to_json()
    assert schema.parse(text) == RUNTIME
    assert schema.parse(text).to_json() == text
    assert text.endswith("}\n")
    assert len(text.splitlines()) < 30
    assert '{"attention": null, "mlp": {"width": 128}}' in text


CHANGES: dict[str, Callable[[Any], object]] = {
    "version 2 is unknown": lambda r: r.update(version=2),
    "version True is unknown": lambda r: r.update(version=True),
    "not a surgery-runtime file": lambda r: r.update(format="other"),
    "the file: unknown or missing keys: extra": lambda r: r.update(extra=1),
    "the file: unknown or missing keys: vocab": lambda r: r.pop("vocab"),
    "`context` is 0": lambda r: r.update(context=0),
    "`context` is 10.5": lambda r: r.update(context=10.5),
    "`vocab` is True": lambda r: r.update(vocab=True),
    "`tied` is 1": lambda r: r.update(tied=1),
    "`checkpoint` is '../../etc'": lambda r: r.update(checkpoint="../../etc"),
    "`checkpoint` is '..'": lambda r: r.update(checkpoint=".."),
    "`checkpoint` is 3": lambda r: r.update(checkpoint=3),
    "`backend` is ''": lambda r: r.update(backend=""),
    "there are no layers": lambda r: r.update(layers=[]),
    "`layers` is not a list": lambda r: r.update(layers={}),
    "layer 1 is not an object": lambda r: r["layers"].__setitem__(1, 7),
    "layer 0: 3 KV heads do not divide 4": lambda r: r["layers"][0]["attention"].update(kv_heads=3),
    "layer 0: `window` is 0": lambda r: r["layers"][0]["attention"].update(window=0),
    "layer 0: 9 active experts of 8": lambda r: r["layers"][0]["mlp"].update(active=9),
    "layer 1: unknown or missing keys": lambda r: r["layers"][1]["mlp"].update(bias=1),
    "`cache` is None": lambda r: r["dtypes"].update(cache=None),
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_no_model_can_be_is_refused(message: str) -> None:
    with pytest.raises(schema.RuntimeFormatError) as error:
        schema.parse(edited(CHANGES[message]))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "NaN", '{"format": 1, "format": 2}', "[" * 100_000, '{"version": Infinity}'],
)
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(schema.RuntimeFormatError):
        schema.parse(text)


def test_reading_needs_the_standard_library_alone(tmp_path: Path) -> None:
    (tmp_path / schema.FILE).write_text(RUNTIME.to_json(), encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from surgery_runtime import schema\n"
        "print(schema.read(Path(sys.argv[1])).context, len(schema.parse.__doc__) > 0)\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'surgery'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == ["1024 True", "[]"]
    (tmp_path / schema.FILE).write_bytes(b"\xff")
    with pytest.raises(schema.RuntimeFormatError, match="UTF-8"):
        schema.read(tmp_path)


def test_writing_a_child_loads_no_torch(bench: Path, tmp_path: Path) -> None:
    program = (
        "import sys; import surgery.passes.emit\n"
        "print(sorted({'torch', 'transformers', 'cvxpy', 'highspy'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"
    case = prepare(bench, "llama", MIXED_LLAMA, tmp_path)
    case.write(tmp_path / "out")
    runtime = schema.read(tmp_path / "out")
    assert runtime.layers == (
        Layer(None, Ffn(64)),
        Layer(Attention(4, 2, 16, 5), Ffn(128)),
        Layer(Attention(4, 1, 16, None), None),
        Layer(Attention(4, 2, 16, 16), Ffn(96)),
    )
    assert runtime.dtypes == Dtypes("BF16", None, "BF16")
    assert (runtime.context, runtime.tied) == (256, True)


def test_code_beside_the_weights_is_never_run(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config that was made to name code of its own: nobody is asked, nothing is run."""
    from surgery_runtime.load import load

    out = tmp_path / "out"
    prepare(bench, "llama", {}, tmp_path).write(out)
    path = out / "checkpoint" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    names = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    path.write_text(json.dumps(config | {"auto_map": names, "model_type": "evil"}), "utf-8")
    mark = tmp_path / "ran"
    evil = f"open({str(mark)!r}, 'w')\nclass Config: pass\nclass Model: pass\n"
    (out / "checkpoint" / "evil.py").write_text(evil, encoding="utf-8")
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": (asked.append(prompt), "y")[1])
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(out)
    assert not asked
    assert not mark.exists()


def test_a_checkpoint_that_is_not_what_is_said_is_refused(bench: Path, tmp_path: Path) -> None:
    from surgery_runtime.load import load

    out = tmp_path / "out"
    prepare(bench, "llama", {(1, FFN): "64"}, tmp_path).write(out)
    assert load(out).training is False
    path = out / schema.FILE
    good = path.read_text(encoding="utf-8")
    path.write_text(good.replace('"width": 64', '"width": 96'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"layer 1 is .* and runtime\.json says"):
        load(out)
    path.write_text(good.replace('"checkpoint": "checkpoint"', '"checkpoint": null'), "utf-8")
    with pytest.raises(ValueError, match="holds no checkpoint"):
        load(out)
