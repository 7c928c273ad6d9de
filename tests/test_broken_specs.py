"""Fifteen ways to be wrong: each ends in a diagnostic and the documented exit code.

For every case: the code is named, nothing is left at the output path, no traceback is shown.
Exit code 1 says that the spec's answer is no, 2 that surgery could not tell (files, disk).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, LLAMA_SPEC, Workplace, untyped

Edit = Callable[[str, str, str], str]


def _refused(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], spec: str, code: str, exit_code: int
) -> str:
    path = workplace.write("broken.surg", spec)
    assert workplace.run("compile", path, "-o", "out") == exit_code
    told = capsys.readouterr()
    assert f"error[{code}]" in told.err + told.out
    assert "Traceback" not in told.err + told.out
    assert not (workplace.folder / "out").exists()
    assert [p.name for p in workplace.folder.iterdir() if p.name.startswith(".out")] == []
    return told.err + told.out


SPEC_MISTAKES = [
    pytest.param("llama", "take   = 4", "take     4", "E0101", "broken.surg:11:", id="syntax"),
    pytest.param("llama", "share * parent.params", "88MB", "E0301", "88MB", id="units"),
    pytest.param("llama", "minimize damage", "minimize damge", "E0201", "damge", id="names"),
    pytest.param("llama", "width 96 | 64", "width 96 | 61", "E0407", "61", id="impossible-width"),
    pytest.param("gpt_oss", "retain 6 | 4", "retain 6 | 1", "E0406", "sent to 2", id="below-top-k"),
    pytest.param("llama", "kv_heads 1", "kv_heads 3", "E0409", "kv_heads 3", id="kv-heads"),
    pytest.param("llama", "window 16 tok", "window 8K tok", "E0408", "256", id="long-window"),
    pytest.param("llama", "share * parent", "1% * parent", "E0601", "@size", id="infeasible"),
]


@pytest.mark.parametrize(("family", "old", "new", "code", "says"), SPEC_MISTAKES)
def test_mistake_in_the_spec(
    family: str,
    old: str,
    new: str,
    code: str,
    says: str,
    workplace: Workplace,
    edited: Edit,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = edited(LLAMA_SPEC if family == "llama" else GPT_OSS_SPEC, old, new)
    told = _refused(workplace, capsys, spec, code, 1)
    assert says in told
    assert "--> " in told


def _own_parent(workplace: Workplace, name: str = "llama") -> Path:
    """Replace the shared parent by a copy that a test may damage."""
    own = workplace.folder / name
    shared = own.resolve()
    own.unlink()
    shutil.copytree(shared, own)
    return own


def test_missing_parent(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace.folder / "llama").unlink()
    told = _refused(workplace, capsys, LLAMA_SPEC, "E0005", 2)
    assert "llama" in told


def test_truncated_shard(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    shard = _own_parent(workplace) / "model.safetensors"
    os.truncate(shard, shard.stat().st_size - 100)
    told = _refused(workplace, capsys, LLAMA_SPEC, "E0004", 2)
    assert "model.safetensors" in told


def test_checkpoint_contradicts_its_config(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _own_parent(workplace) / "config.json"
    fields = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(fields | {"intermediate_size": 160}), encoding="utf-8")
    told = _refused(workplace, capsys, LLAMA_SPEC, "E0411", 1)
    assert "gate_proj" in told


def test_unknown_family(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    config = _own_parent(workplace) / "config.json"
    fields = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(fields | {"model_type": "mamba9"}), encoding="utf-8")
    told = _refused(workplace, capsys, LLAMA_SPEC, "E0401", 1)
    assert "mamba9" in told
    assert "gpt_oss" in told


def test_not_finite_score(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    torch, safetensors = untyped("torch"), untyped("safetensors.torch")
    shard = _own_parent(workplace) / "model.safetensors"
    tensors = safetensors.load_file(shard)
    tensors["model.layers.2.mlp.down_proj.weight"][0, 0] = torch.nan
    safetensors.save_file(tensors, shard, metadata={"format": "pt"})
    _refused(workplace, capsys, LLAMA_SPEC, "E0702", 1)


def _in_a_process(
    workplace: Workplace, prepare: Callable[[], None], *options: str
) -> subprocess.CompletedProcess[str]:
    path = workplace.write("good.surg", LLAMA_SPEC)
    command = [sys.executable, "-m", "surgery", "compile", path, *options]
    command += ["--library", str(workplace.library)]
    return subprocess.run(
        command, capture_output=True, text=True, preexec_fn=prepare, check=False, timeout=120
    )


def test_disk_fills_up(workplace: Workplace) -> None:
    # The plan and its measurements first: then only the output is too big for the limit.
    assert workplace.run("plan", workplace.write("good.surg", LLAMA_SPEC), "-o", "a.plan") == 0

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = _in_a_process(workplace, limit, "-o", "out")
    assert done.returncode == 2, done.stderr
    assert "error[E0806]" in done.stderr or "error[E0803]" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in workplace.folder.iterdir() if "out" in p.name) == []


def test_no_write_permission(workplace: Workplace) -> None:
    closed = workplace.folder / "closed"
    closed.mkdir(mode=0o555)

    def drop_override() -> None:
        # root writes anywhere: take CAP_DAC_OVERRIDE out of what the program may have.
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)

    done = _in_a_process(workplace, drop_override, "-o", str(closed / "out"))
    assert done.returncode == 2, done.stderr
    assert "error[E0806]" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(closed.iterdir()) == []
