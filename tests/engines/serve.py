"""`python serve.py JOBS ANSWERS`: models served by vLLM, one after the other, in this process.

In: a JSON list of jobs `{"model", "prompt", "tokens", "options", "kernels"}`. Out: for each an
object: `tokens`, generated greedily; `logprobs`, for every position from the second one on a map
from token to log probability, as vLLM gave it; `scales`, `windows` and `cached` (dtypes of the KV
cache) of the attention layers; or `error`, the text of what vLLM raised. With `VLLM_PLUGINS=""` in
the environment our plugin is left out.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import kernels

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    # In this process: kernels are replaced where they are called.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
OPTIONS: dict[str, Any] = {
    "skip_tokenizer_init": True,
    "enforce_eager": True,
    "dtype": "float32",
    "max_model_len": 256,
    "num_gpu_blocks_override": 128,
    "enable_prefix_caching": False,
    "disable_log_stats": True,
}


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Serve one model, and let it go."""
    vllm: Any = importlib.import_module("vllm")
    kernels.install(job["kernels"])
    llm: Any = None
    try:
        llm = vllm.LLM(model=job["model"], **(OPTIONS | job["options"]))
        facts: dict[str, Any] = llm.apply_model(attentions)[0]
        sampling = vllm.SamplingParams(
            temperature=0,
            max_tokens=job["tokens"],
            detokenize=False,
            prompt_logprobs=5,
            logprobs=5,
            ignore_eos=True,
        )
        made = llm.generate([{"prompt_token_ids": job["prompt"]}], sampling)[0]
    except Exception as error:
        # Whatever it is, it is the answer.
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        del llm
        importlib.import_module("vllm.distributed").cleanup_dist_env_and_memory()
    steps: list[dict[int, Any]] = [*made.prompt_logprobs[1:], *made.outputs[0].logprobs]
    logprobs = [{token: found.logprob for token, found in step.items()} for step in steps]
    return {"tokens": list(made.outputs[0].token_ids), "logprobs": logprobs, **facts}


def attentions(model: Any) -> dict[str, Any]:
    """What the attention layers of a loaded model hold, in their order."""
    kind = importlib.import_module("vllm.model_executor.layers.attention").Attention
    found = [module for module in model.modules() if isinstance(module, kind)]
    return {
        "scales": [[float(m._k_scale), float(m._v_scale)] for m in found],
        "windows": [m.sliding_window for m in found],
        "cached": [m.kv_cache_dtype for m in found],
    }


def main() -> None:
    """Read jobs, write answers."""
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answers = [answer(job) for job in jobs]
    Path(sys.argv[2]).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
