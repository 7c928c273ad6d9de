"""Train the model on the token stream and the recall sequences.

In: `CORPUS/stream.npy` (tokenizer.py) and `CORPUS/recall.npz` (recall.py).
Out: `RUN/checkpoint.pt` (weights, optimiser, step), every `--save` steps and at the end, and
`RUN/log.jsonl`. Same seed, machine and thread count: same weights. A run that stopped goes on from
its checkpoint and ends with the weights it would have had.
Not here: export (export.py) and measurements (evaluate.py).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from induction import seed_induction
from model import Model, Sizes
from muon import Muon
from torch import Tensor

BATCH, LENGTH = 8, 512
BALANCE = 0.01
RATES = {"muon": 0.02, "embed": 0.01, "adam": 0.004}
KNOTS = "0:0 40:1 250:1 350:0.8 600:0.7 650:0.6364 1180:0.1867 1460:0"
EARLY = 600  # steps with two recall sequences a batch; later one and two in turn
SEEDED = 1000  # the step before which induction.py acts; from then on two in every batch again
DRILLED = {range(350, EARLY): 2, range(SEEDED, SEEDED + 100): 1}  # drills in a batch, besides


@dataclass(frozen=True, slots=True)
class Plan:
    """The rate over the steps, piecewise linear, and from when on the experts are rounded."""

    knots: tuple[tuple[int, float], ...]
    rounded_from: int

    @property
    def steps(self) -> int:
        """Give the length of the run."""
        return self.knots[-1][0]

    def rate(self, step: int) -> float:
        """Give the share of the full rate that a step takes."""
        places, rates = zip(*self.knots, strict=True)
        return float(np.interp(step + 0.5, places, rates))


def parse_plan(knots: str, rounded_from: int) -> Plan:
    """Read knots written as `step:rate step:rate ...`."""
    pairs = (part.split(":") for part in knots.split())
    return Plan(tuple((int(step), float(rate)) for step, rate in pairs), rounded_from)


def recall_rows(step: int) -> tuple[int, int]:
    """Say how many sequences of a batch are recall sequences, and how many are drills."""
    recall = 1 if EARLY <= step < SEEDED and step % 2 == 0 else 2
    return recall, sum(count for steps, count in DRILLED.items() if step in steps)


def seed_sample(corpus: Path) -> Tensor:
    """Give the text from which the induction circuit is worked out: plain text and drills."""
    stream = np.load(corpus / "stream.npy")[: 24 * LENGTH].reshape(24, LENGTH)
    drills = np.load(corpus / "recall.npz")["drills"][:8]
    return torch.from_numpy(np.concatenate((stream, drills)).astype(np.int64))


class Pool:
    """Gives rows of (tokens, masks) in turn."""

    def __init__(self, tokens: np.ndarray, masks: np.ndarray) -> None:
        self.tokens, self.masks, self.used = tokens.astype(np.int64), masks, 0

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the next rows."""
        chosen = np.arange(self.used, self.used + count) % len(self.tokens)
        self.used += count
        return self.tokens[chosen], self.masks[chosen]


def batches(corpus: Path, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Give (tokens [BATCH, LENGTH], mask of the recalled tokens) for ever, one per step."""
    stream = np.load(corpus / "stream.npy").astype(np.int64)
    data = np.load(corpus / "recall.npz")
    recall = Pool(data["tokens"], data["masks"])
    drills = Pool(data["drills"], data["drill_masks"])
    rng = np.random.default_rng(seed)
    order = np.zeros(0, dtype=np.int64)
    for step in itertools.count():
        rows = recall_rows(step)
        plain = BATCH - sum(rows)
        if len(order) < plain:
            shift = int(rng.integers(LENGTH))
            order = rng.permutation((len(stream) - shift) // LENGTH) * LENGTH + shift
        text = np.stack([stream[place : place + LENGTH] for place in order[:plain]])
        order = order[plain:]
        parts = [
            (text, np.zeros(text.shape, dtype=bool)),
            recall.take(rows[0]),
            drills.take(rows[1]),
        ]
        tokens, masks = (np.concatenate(part) for part in zip(*parts, strict=True))
        yield torch.from_numpy(tokens), torch.from_numpy(masks)


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Say whether Muon updates a parameter."""
    vectors = ("embed_tokens.weight", "lm_head.weight", "router.weight", "proj_bias")
    return parameter.dim() >= 2 and not name.endswith(vectors)


class Trainer:
    """Holds what a checkpoint holds, and takes steps."""

    def __init__(self, run: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.run, self.step = run, 0
        self.model = Model(Sizes())
        named = list(self.model.named_parameters())
        self.muon = Muon([(n, p) for n, p in named if is_matrix(n, p)])
        rest = [(n, p) for n, p in named if not is_matrix(n, p)]
        groups = [
            {"params": [p for n, p in rest if n.startswith("embed") == embed], "rate": RATES[kind]}
            for kind, embed in (("embed", True), ("adam", False))
        ]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def save(self) -> None:
        """Write the checkpoint in one go."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "muon": self.muon.state(),
            "adam": self.adam.state_dict(),
        }
        torch.save(state, self.run / "checkpoint.tmp")
        (self.run / "checkpoint.tmp").replace(self.run / "checkpoint.pt")

    def load(self) -> None:
        """Go on from a checkpoint, if there is one."""
        path = self.run / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.step = state["step"]
            self.model.load_state_dict(state["model"])
            self.muon.load(state["muon"])
            self.adam.load_state_dict(state["adam"])

    def advance(self, ids: Tensor, mask: Tensor, rate: float) -> dict[str, float]:
        """Take one step and give its losses: plain text, recalled tokens, balance."""
        losses, balance = self.model.losses(ids)
        (losses.mean() + BALANCE * balance).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step(RATES["muon"] * rate)
        for group in self.adam.param_groups:
            group["lr"] = group["rate"] * rate
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        plain = BATCH - sum(recall_rows(self.step))
        self.step += 1
        return {
            "plain": losses.detach()[:plain].mean().item(),
            "recalled": losses.detach()[mask[:, 1:]].mean().item(),
            "balance": balance.item() / len(self.model.layers),
        }


def read_plan(args: argparse.Namespace) -> Plan:
    """Take the plan from the command line, or from RUN/plan.json where a run must be shortened."""
    path = args.run / "plan.json"
    if path.exists():
        return parse_plan(**json.loads(path.read_text()))
    return parse_plan(args.knots, args.rounded_from)


def train(args: argparse.Namespace) -> None:
    """Run the steps, log them, keep checkpoints."""
    args.run.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(args.run, args.seed)
    trainer.load()
    source = batches(args.corpus, args.seed)
    for _ in range(trainer.step):
        next(source)
    recent, start = list[dict[str, float]](), time.monotonic()
    with (args.run / "log.jsonl").open("a", encoding="utf-8", buffering=1) as log:
        while trainer.step < (plan := read_plan(args)).steps:
            if trainer.step == SEEDED:
                seed_induction(trainer.model, seed_sample(args.corpus))
            trainer.model.quantise(trainer.step >= plan.rounded_from)
            recent.append(trainer.advance(*next(source), plan.rate(trainer.step)))
            if trainer.step % 20 == 0:
                means = {key: float(np.mean([r[key] for r in recent])) for key in recent[0]}
                line = {key: round(mean, 4) for key, mean in means.items()}
                seconds = (time.monotonic() - start) / len(recent)
                log.write(json.dumps({"step": trainer.step, **line, "s": round(seconds, 2)}) + "\n")
                recent, start = [], time.monotonic()
            if trainer.step % args.save == 0 or trainer.step == plan.steps:
                trainer.save()


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--knots", default=KNOTS)
    parser.add_argument("--rounded-from", type=int, default=300)
    parser.add_argument("--save", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args)


if __name__ == "__main__":
    main()
