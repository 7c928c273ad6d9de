"""Fixtures: children, and what vLLM made of them.

The compiler has a venv of its own, `.venv` (or whatever `SURGERY_PYTHON` names), so children are
made in another process; engines run in others again, one with our plugin and one without. Where
vLLM is not installed, which is what `make engines` does, modules that name this as a plugin are
skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROMPT = [(i * 37 + i * i * 11) % 250 for i in range(80)]

if importlib.util.find_spec("vllm") is None:
    pytest.skip("there is no vLLM here: see `make engines`", allow_module_level=True)


class Served:
    """What vLLM made of the children: one process serves a list of jobs, when first asked."""

    def __init__(self, folder: Path, jobs: dict[str, dict[str, Any]], **environment: str) -> None:
        self._folder = folder
        self._jobs = jobs
        self._environment = environment
        self._answers: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> dict[str, Any]:
        if not self._answers:
            paths = [self._folder / f"{what}.json" for what in ("jobs", "answers")]
            paths[0].write_text(json.dumps(list(self._jobs.values())), encoding="utf-8")
            run("serve.py", *map(str, paths), **self._environment)
            answers = json.loads(paths[1].read_text(encoding="utf-8"))
            self._answers = dict(zip(self._jobs, answers, strict=True))
        return self._answers[name]


def run(script: str, *arguments: str, python: str = sys.executable, **environment: str) -> None:
    """Run a script of this folder; what it printed is shown if it fails."""
    made = subprocess.run(
        [python, str(HERE / script), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-8000:]


def job(model: Path, *kernels: str, **options: Any) -> dict[str, Any]:
    """A checkpoint to serve, with what `vllm.LLM` is told."""
    checkpoint = model / "checkpoint" if (model / "checkpoint").exists() else model
    told = {"model": str(checkpoint), "prompt": PROMPT, "tokens": 8}
    return told | {"options": options, "kernels": list(kernels)}


@pytest.fixture(scope="session")
def children(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that `children.py` makes."""
    folder = tmp_path_factory.mktemp("children")
    python = os.environ.get("SURGERY_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
    run("children.py", str(folder), python=python)
    return folder


@pytest.fixture(scope="session")
def plugged(children: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """vLLM with our plugin. Whatever needs a replaced kernel comes last: it stays replaced."""
    plain = ("puzzle", "plain", "deci", "deci_windows", "deci_first", "mxfp4", "mxfp4_bf16")
    jobs = {name: job(children / name) for name in plain}
    jobs["mxfp4 kernels"] = job(children / "mxfp4", dtype="bfloat16")
    jobs["fp8 kernels"] = job(children / "fp8", kv_cache_dtype="fp8")
    jobs["mxfp4"] = job(children / "mxfp4", "mxfp4_experts")
    jobs["mxfp4 fp8"] = job(children / "mxfp4", "mxfp4_experts", "fp8_cache", kv_cache_dtype="fp8")
    for name in ("fp8", "fp8_unit", "fp8_some", "deci_fp8"):
        jobs[name] = job(children / name, "fp8_cache", kv_cache_dtype="fp8")
    jobs["fp8 bf16"] = job(children / "fp8", "fp8_cache", dtype="bfloat16", kv_cache_dtype="fp8")
    skip = ["0", "2", "3", "5"]
    jobs["fp8_some skipping"] = job(
        children / "fp8_some", "fp8_cache", kv_cache_dtype="fp8", kv_cache_dtype_skip_layers=skip
    )
    # In the order in which they are to run, the kernels' last.
    ordered = sorted(jobs, key=lambda name: len(jobs[name]["kernels"]) > 0)
    return Served(tmp_path_factory.mktemp("plugged"), {name: jobs[name] for name in ordered})


@pytest.fixture(scope="session")
def stock(children: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """vLLM as it comes."""
    jobs = {
        "deci": job(children / "deci", trust_remote_code=True),
        "deci_windows": job(children / "deci_windows", trust_remote_code=True),
        "puzzle": job(children / "puzzle"),
        "puzzle trusted": job(children / "puzzle", trust_remote_code=True),
        "experts_padded": job(children / "experts_padded"),
        "swapped": job(children / "swapped"),
        "fp8_silent": job(children / "fp8_silent", "fp8_cache", kv_cache_dtype="fp8"),
        # vLLM's ModelOpt computes in no other.
        "fp8_told": job(children / "fp8_told", "fp8_cache", dtype="bfloat16"),
    }
    return Served(tmp_path_factory.mktemp("stock"), jobs, VLLM_PLUGINS="")
