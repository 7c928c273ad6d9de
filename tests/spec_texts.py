"""The two complete specs of the language's description, for tests that need real text."""

SMOL = """surg 1

## SmolLM2-135M on a diet. Small enough to solve, cut and serve in one test run,
## and to read in one sitting: start here.

import "std/nvidia.surg" as nvidia

model parent = hf("HuggingFaceTB/SmolLM2-135M")

## Fraction of the parent's parameters to keep. Try --set share=70%.
input share: ratio = 80%

expect @heads parent.heads % parent.kv_heads == 0

machine gpu = 1 * nvidia.h100_sxm

scenario chat on gpu {
  prefill = 1K tok
  decode  = 1K tok
  batch   = 64
}

dataset text = local("data/wiki-2k.jsonl") {
  take   = 256
  length = 1K tok
  seed   = 0
}

score damage = swap_one(metric: kl(logits), on: text)

# The ends of a network do the translating; leave their attention alone.
let ends = [0..1, 28..29]

choose attention in layers except layers[ends] {
  keep                                    # 9 heads share 3 KV heads
  kv_heads 1 init mean
  linear     init least_squares(text)
  noop
}

choose ffn in layers {
  keep                                    # 1536 wide
  width 1280 | 1024 | 768 | 512 by channel_contribution(text)
  noop when index >= 2
}

require @size  params <= share * parent.params
require @speed throughput(chat) >= 1.25x * parent.throughput(chat)
require @calm  count(layers where attention is noop and ffn is noop) == 0
  else "dropping a whole layer is a depth change; say so with `choose layer`"

minimize damage

recover {
  distill {
    teacher = parent
    data    = text
    tokens  = 50M tok
    length  = 1K tok
    loss    = kl(logits)
  }
}

emit checkpoint "out/smollm2-diet"
emit runtime "out/smollm2-diet" { backend = triton, context = 2K tok }
"""

OSS = """surg 1

## gpt-oss-120b, made about 1.6x faster for long reasoning traces.
##
## Reproduces the search of arXiv:2602.11937: prune experts layer by layer,
## turn some full attention into window attention, store the KV cache in FP8,
## then distill and reinforce what was lost.

import "std/nvidia.surg" as nvidia
import "std/moe.surg" as moe
import "std/kv.surg" as kv

model parent = hf("openai/gpt-oss-120b") {
  revision = "b5c939de8f754692c1647ca79fbf85e8c1e70f8a"
}

# Cheap facts about the parent. They fail in a second, before any GPU is busy.
expect @right-parent parent.weights >= 60.7GiB and parent.weights <= 60.8GiB
expect @alternating  count(layers where attention is full) == 18

# ---- where it must run -------------------------------------------------------

machine node = 8 * nvidia.h100_sxm { tensor_parallel = 8 }
machine one  = 1 * nvidia.h100_sxm

scenario long on node {
  prefill = 64K tok
  decode  = 64K tok
  batch   = fit
}

scenario short on node {
  prefill = 4K tok
  decode  = 4K tok
  batch   = fit
}

scenario solo on one {
  prefill = 64K tok
  decode  = 64K tok
  batch   = 8                 # eight long conversations on one GPU; the parent cannot
}

fn speedup(s: scenario) -> ratio = throughput(s) / parent.throughput(s)

# ---- how we tell good from bad -----------------------------------------------

dataset traces = hf("nvidia/Llama-Nemotron-Post-Training-Dataset") {
  take   = 2048
  length = 8K tok
  seed   = 42
}

dataset novels = local("data/long-documents") {
  take   = 128
  length = 128K tok
  seed   = 42
}

## Damage done by swapping one block and leaving the other 35 alone.
score damage = swap_one(metric: kl(logits), on: traces)

## The same on long documents, counting only the last 8K tokens: what a window forgets.
score reach = swap_one(metric: kl(logits), on: novels) { tail = 8K tok }

# ---- what may change ---------------------------------------------------------

apply kv_cache {
  dtype  = fp8_e4m3
  scales = kv.max_calibrated(traces)
}

choose experts in layers {
  keep                                                    # 128
  retain 112 | 96 | 80 | 64 | 48 by moe.contribution(traces)
}

choose attention in layers where attention is full {
  keep
  window 8K tok | 128 tok
}

# ---- what we want ------------------------------------------------------------

require @long   speedup(long) >= 1.60x
require @short  speedup(short) >= 1.20x
require @single memory(solo) <= 92% * one.memory
require @size   params <= 88.5B params
require @reach  reach <= 0.020
require @shards every(layers: experts % node.gpus == 0)
  else "tensor parallelism splits the experts of a layer evenly over the GPUs"
require @sight  count(layers where attention is full) >= 8 layers

minimize damage + 0.5 * reach

# ---- what happens to the winner ----------------------------------------------

recover {
  distill {
    teacher = parent
    data    = traces
    tokens  = 84B tok
    length  = 128K tok
    loss    = kl(logits)
    freeze  = [experts, router]
  }
  reinforce deep {
    effort  = [high]
    tasks   = ["math", "code", "science"]
    freeze  = [experts, router]
  }
  reinforce brief {
    effort         = [low, medium, high]
    tasks          = ["math", "code", "science"]
    length_penalty = 0.1
    freeze         = [experts, router]
  }
  average { of = [deep, brief] }
}

emit checkpoint "out/gpt-oss-88b" { shard = 5GB }
emit runtime "out/gpt-oss-88b" { backend = triton, context = 128K tok }
"""

SPECS = (SMOL, OSS)
