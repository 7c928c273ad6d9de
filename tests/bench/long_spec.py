"""A spec of about a thousand lines, such as nobody has yet but an organisation may write.

In: a number. Out: the text of a spec that checks without an error and makes few lints speak, the
same for the same number and different for another: a machine, scenarios, a corpus, a score, edits
and wishes for every customer. Every kind of statement occurs.
"""

from __future__ import annotations

import random

CUSTOMERS = 22
"""Makes a thousand lines."""

_HEAD = """surg 1

## A family of children of one parent, release {number}.
##
## One machine, two scenarios, one corpus and the same promises for every customer, and one choice
## for every few layers.

import "std/nvidia.surg" as nvidia
import "std/moe.surg" as moe
import "std/kv.surg" as kv

# The parent, pinned.
model parent = hf("openai/gpt-oss-120b") {{
  revision = "b5c939de8f754692c1647ca79fbf85e8c1e70f8a"
}}

## Fraction of the parent's bytes to keep. Try `--set share=60%`.
input share: ratio = {share}%

## Sequences that are served at once. Try `--set sequences=8`.
input sequences: count = {batch}

expect @right-parent parent.weights >= 60.7GiB and parent.weights <= 60.8GiB
expect @alternating  count(layers where attention is full) == 18

fn room(s: scenario, m: machine, part: ratio) -> truth = memory(s) <= part * m.gpus * 80GB

# What every requirement speaks of.
let roomy = {room}%
let whole = 1.0x
"""

_WORLD = """
# ---- customer {n} {rule}

## The machine of customer {n}: {gpus} accelerators in one box.
machine node_{n} = {gpus} * nvidia.h100_sxm {{ tensor_parallel = {gpus} }}

## Long questions, long answers.
scenario long_{n} on node_{n} {{
  prefill = {long}K tok
  decode  = {long}K tok   # as much again
  batch   = {batch}
}}

scenario short_{n} on node_{n} {{ prefill = {short} tok, decode = {short} tok, batch = sequences }}

## What customer {n} sends.
dataset corpus_{n} = local("data/corpus-{n}.jsonl") {{
  take   = {take}
  length = {long}K tok
  seed   = {n}
}}

## Damage of changing one block while all the others stay as they are.
score damage_{n} = swap_one(metric: kl(logits), on: corpus_{n}) {{ tail = {tail} tok }}

let share_{n} = {fraction} * share + {offset}%
let reach_{n} = max({long}K tok, 2 * {short} tok)
"""

_EDITS = """
# Layers {low} and {high}.
choose experts in layers[{low}..{high}] {{
  keep                                              # all of them
  retain {a} | {b} | {c} by moe.contribution(corpus_{n})
  retain {d} by moe.reap(corpus_{n}) when index >= {high}
}}

choose attention in layers[{low}..{high}] where attention is full {{
  keep
  window {window} tok | {half} tok
}}
"""

_WISHES = """
require @fits-{n}   room(long_{n}, node_{n}, roomy) and room(short_{n}, node_{n}, roomy)
require @size-{n}   weights <= share_{n} * parent.weights and params <= whole * parent.params
require @cache-{n}  kv(reach_{n}) <= {cache} * parent.kv(reach_{n})
  else "customer {n} pays for {gpus} accelerators and no more"
require @some-{n}   count(layers[{low}..{high}] where attention is full) + {more} >= 0
"""

_TAIL = """
require @even  every(layers: experts % {gpus} == 0)
  else "tensor parallelism splits the experts of a layer evenly over the GPUs"

minimize {objective}

recover {{
  distill {{
    teacher = parent
    data    = lessons
    tokens  = 84B tok
    length  = 128K tok
    loss    = kl(logits)
    freeze  = [experts, router]
  }}
  reinforce deep {{
    effort = [low, medium, high]
    tasks  = ["math", "code", "science"]
    freeze = [router]
  }}
  average {{ of = [deep] }}
}}

emit checkpoint "out/family-{number}" {{ shard = 5GB }}
emit runtime "out/family-{number}" {{ context = 128K tok }}
"""

_BETWEEN = """
## What the children learn from; none of the customers has sent it.
dataset lessons = local("data/lessons.jsonl") {{ take = 2048, length = 128K tok, seed = {seed} }}

# ---- what may change {rule}

apply kv_cache {{
  dtype  = fp8_e4m3
  scales = kv.max_calibrated(corpus_0)
}}
"""


def long_spec(number: int, customers: int = CUSTOMERS) -> str:
    """The text of spec `number`."""
    rng, rule, gpus = random.Random(number), "-" * 60, 2 ** (1 + number % 3)
    share, batch, room = rng.randint(60, 90), rng.randint(8, 64), rng.randint(85, 98)
    parts = [_HEAD.format(number=number, share=share, batch=batch, room=room)]
    parts += [_world(rng, n, gpus) for n in range(customers)]
    parts.append(_BETWEEN.format(seed=rng.randint(100, 999), rule=rule))
    parts += [_edits(rng, n) for n in range(min(customers, 18))]
    parts.append(f"\n# ---- what must hold {rule}\n")
    parts += [_wishes(rng, n, gpus) for n in range(customers)]
    weights = [f"{rng.randint(1, 9_999) / 10_000} * damage_{n}" for n in range(customers)]
    lines = ["damage_0", *(" + ".join(weights[n : n + 4]) for n in range(1, customers, 4))]
    parts.append(_TAIL.format(number=number, gpus=gpus, objective="\n  + ".join(lines)))
    return "".join(parts)


def _world(rng: random.Random, n: int, gpus: int) -> str:
    return _WORLD.format(
        n=n,
        gpus=gpus,
        rule="-" * 60,
        long=rng.choice((16, 32, 64)),
        short=rng.randint(2048, 4096),
        batch=rng.randint(2, 32),
        take=rng.randint(64, 2048),
        tail=rng.randint(16, 128),
        fraction=rng.randint(50, 99) / 100,
        offset=rng.randint(1, 9),
    )


def _edits(rng: random.Random, n: int) -> str:
    a, b, c, d = sorted(rng.sample(range(2, 15), 4), reverse=True)
    window = rng.randint(64, 512)
    high = 2 * n + 1
    sizes = {"a": 8 * a, "b": 8 * b, "c": 8 * c, "d": 8 * d, "window": 2 * window, "half": window}
    return _EDITS.format(n=n, low=2 * n, high=high, **sizes)


def _wishes(rng: random.Random, n: int, gpus: int) -> str:
    cache, low = rng.randint(8_500, 9_999) / 10_000, rng.randint(0, 17)
    more, high = rng.randint(1000, 9999), low + rng.randint(1, 18)
    return _WISHES.format(n=n, gpus=gpus, cache=cache, low=low, high=high, more=more)
