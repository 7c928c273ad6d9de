"""Measure the exported model: is there something worth cutting, and where?

In: MODEL (config.json, model.safetensors, tokenizer.json, text/*.jsonl) and `CORPUS/stream.npy`,
the training text, for the Kneser-Ney baseline.
Out: `MODEL/figures.json`, and the same figures printed. Losses are in nats per token.
For the loss, documents are scored in windows of 512 tokens that advance by 256, so that all but a
document's first tokens have at least 256 tokens of context (the baseline sees its whole context
everywhere). What edits cost is measured in windows that do not overlap.
Not here: any score of another model; `export.load` reads only what export.py writes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from export import load
from kneser_ney import KneserNey
from model import Model
from numpy.typing import NDArray
from tokenizer import END_OF_TEXT, read_documents
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

LENGTH, ADVANCE, BATCH = 512, 256, 4
Figures = dict[str, Any]


@dataclass(slots=True)
class Text:
    """The windows of a set of documents: which of their tokens count, and as what."""

    ids: list[list[int]] = field(default_factory=list)
    counted: list[list[bool]] = field(default_factory=list)
    answers: list[list[bool]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def cut(
    tokenizer: Tokenizer, documents: list[dict[str, Any]], label: str, advance: int = LENGTH
) -> Text:
    """Cut documents into windows, each token counted once, labelled by a key of the document."""
    text, end = Text(), tokenizer.token_to_id(END_OF_TEXT)
    for doc in documents:
        encoding = tokenizer.encode(doc["text"])
        ids = [end, *encoding.ids]
        spans = doc.get("answers", [])
        marks = [False] + [
            any(a <= first and last <= b for a, b in spans) for first, last in encoding.offsets
        ]
        done = 1
        for start in range(0, max(1, len(ids) - LENGTH + advance), advance):
            stop = min(start + LENGTH, len(ids))
            pad = LENGTH - (stop - start)
            counted = [place >= done for place in range(start, stop)]
            text.ids.append(ids[start:stop] + [end] * pad)
            text.counted.append(counted + [False] * pad)
            text.answers.append(marks[start:stop] + [False] * pad)
            text.labels.append(doc[label])
            done = stop
    return text


def choose(text: Text, rows: list[int]) -> Text:
    """Take some of the windows."""
    parts = [[part[i] for i in rows] for part in (text.ids, text.counted, text.answers)]
    return Text(parts[0], parts[1], parts[2], [text.labels[i] for i in rows])


@torch.no_grad()
def score(model: Model, text: Text) -> tuple[Tensor, Tensor]:
    """Give loss and correctness of every token [windows, LENGTH]; the first column is void."""
    losses, right = [torch.zeros(0, LENGTH)], [torch.zeros(0, LENGTH, dtype=torch.bool)]
    for start in range(0, len(text.ids), BATCH):
        ids = torch.tensor(text.ids[start : start + BATCH])
        logits = model.lm_head(model.hidden(ids)[0][:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        losses.append(F.pad(loss.view(ids.shape[0], -1), (1, 0)))
        right.append(F.pad(logits.argmax(dim=-1) == ids[:, 1:], (1, 0)))
    return torch.cat(losses), torch.cat(right)


def mean_loss(model: Model, text: Text) -> float:
    """Give the mean loss of the counted tokens."""
    return score(model, text)[0][torch.tensor(text.counted)].mean().item()


def by_label(values: Tensor, mask: Tensor, labels: list[str]) -> dict[str, float]:
    """Average the masked values of each label, and of all."""
    means: dict[str, float] = {}
    for label in sorted(set(labels)):
        rows = torch.tensor([other == label for other in labels])
        means[label] = round(values[rows][mask[rows]].double().mean().item(), 4)
    means["all"] = round(values[mask].double().mean().item(), 4)
    return means


def baseline(stream: NDArray[np.int64], model: Model, tokenizer: Tokenizer, docs: Any) -> Figures:
    """Score the plain documents with the 5-gram trained on the same stream."""
    kneser_ney = KneserNey(stream, model.sizes.vocabulary)
    end, sums = tokenizer.token_to_id(END_OF_TEXT), dict[str, list[NDArray[np.float64]]]()
    for doc in docs:
        ids = np.array([end, *tokenizer.encode(doc["text"]).ids])
        sums.setdefault(doc["domain"], []).append(-kneser_ney.score(ids))
    means = {d: round(float(np.concatenate(v).mean()), 4) for d, v in sorted(sums.items())}
    total = np.concatenate([part for parts in sums.values() for part in parts])
    return {**means, "all": round(float(total.mean()), 4)}


@torch.no_grad()
def expert_use(model: Model, text: Text) -> tuple[Tensor, list[str]]:
    """Count the choices of each expert [layers, domains, experts] over the counted tokens."""
    names = sorted(set(text.labels))
    s = model.sizes
    use = torch.zeros(s.layers, len(names), s.experts, dtype=torch.float64)
    for start in range(0, len(text.ids), BATCH):
        ids = torch.tensor(text.ids[start : start + BATCH])
        rows = torch.tensor(text.counted[start : start + BATCH]).flatten()
        domain = torch.tensor([names.index(x) for x in text.labels[start : start + BATCH]])
        domain = domain.repeat_interleave(LENGTH)[rows]
        for layer, chosen in enumerate(model.hidden(ids)[2]):
            one = F.one_hot(chosen[rows], s.experts).sum(dim=1).double()
            use[layer].index_add_(0, domain, one)
    return use, names


def specialisation(use: Tensor) -> list[Figures]:
    """Give each layer's least and greatest share of use, entropy, and information on the domain."""
    rows = list[Figures]()
    for layer, counts in enumerate(use):
        joint = (counts / counts.sum(dim=1, keepdim=True)) / counts.shape[0]
        expert = joint.sum(dim=0)
        expected = expert / counts.shape[0]
        information = (joint * (joint.clamp(min=1e-30) / expected.clamp(min=1e-30)).log()).sum()
        share = counts.sum(dim=0) / counts.sum()
        entropy = -(share * share.clamp(min=1e-30).log()).sum() / np.log(counts.shape[1])
        rows.append(
            {
                "layer": layer,
                "dead": int((share == 0).sum()),
                "least_used": round(share.min().item(), 5),
                "most_used": round(share.max().item(), 5),
                "entropy_share": round(entropy.item(), 4),
                "information_nats": round(information.item(), 4),
            }
        )
    return rows


def recall_figures(model: Model, recall: Text) -> Figures:
    """Give the loss and the share guessed right of the tokens that can be recalled, by kind."""
    losses, right = score(model, recall)
    mask = torch.tensor(recall.answers) & torch.tensor(recall.counted)
    return {
        "loss": by_label(losses, mask, recall.labels),
        "right": by_label(right, mask, recall.labels),
    }


def window_costs(model: Model, plain: Text, recall: Text) -> list[Figures]:
    """Put the window on each full layer in turn, then on all; give what it costs."""
    full = [i for i in range(model.sizes.layers) if not model.sizes.sliding(i)]
    before = mean_loss(model, plain), recall_figures(model, recall)
    rows = list[Figures]()
    for layers in [*([i] for i in full), full]:
        for i in layers:
            model.layers[i].self_attn.window = model.sizes.window
        after = mean_loss(model, plain), recall_figures(model, recall)
        for i in layers:
            model.layers[i].self_attn.window = None
        rows.append(
            {
                "layers": layers,
                "plain_cost": round(after[0] - before[0], 4),
                "recalled_cost": round(after[1]["loss"]["all"] - before[1]["loss"]["all"], 4),
                "recalled_right": after[1]["right"],
            }
        )
    return rows


def pruning_costs(model: Model, plain: Text, use: Tensor) -> list[Figures]:
    """Keep the half of the experts used most on the calibration text, in each layer and in all."""
    half = model.sizes.experts // 2
    before, rows = mean_loss(model, plain), list[Figures]()
    every = list(range(model.sizes.layers))
    for layers in [*([i] for i in every), every]:
        for i in layers:
            kept = use[i].sum(dim=0).argsort(descending=True)[:half]
            allowed = torch.zeros(model.sizes.experts, dtype=torch.bool)
            allowed[kept] = True
            model.layers[i].mlp.allowed = allowed
        rows.append({"layers": layers, "plain_cost": round(mean_loss(model, plain) - before, 4)})
        for i in layers:
            model.layers[i].mlp.allowed = None
    return rows


def transformers_difference(folder: Path, model: Model, text: Text) -> dict[str, float]:
    """Compare logits with transformers' own loader and model, in float32."""
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor(text.ids[:2])
    with torch.no_grad():
        ours, theirs = model.lm_head(model.hidden(ids)[0]), reference(ids).logits
    return {
        "largest_logit": round(theirs.abs().max().item(), 3),
        "largest_difference": float(f"{(ours - theirs).abs().max().item():.2g}"),
    }


def evaluate(folder: Path, corpus: Path, few: int) -> Figures:
    """Take all the measurements; `few` > 0 takes only every few-th window."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = load(folder)
    heldout: list[dict[str, Any]] = read_documents(folder / "text/heldout.jsonl")
    calibration = read_documents(folder / "text/calibration.jsonl")
    plain_docs = [doc for doc in heldout if doc["kind"] == "plain"]
    overlapping = cut(tokenizer, plain_docs, "domain", ADVANCE)
    plain = cut(tokenizer, plain_docs, "domain")
    recall = cut(tokenizer, [doc for doc in heldout if doc["kind"] != "plain"], "kind")
    ranking = cut(tokenizer, [doc for doc in calibration if doc["kind"] == "plain"], "domain")
    if few:
        overlapping, plain, recall, ranking = (
            choose(part, list(range(0, len(part.ids), few)))
            for part in (overlapping, plain, recall, ranking)
        )
    stream = np.load(corpus / "stream.npy").astype(np.int64)
    use, _ = expert_use(model, plain)
    counted = torch.tensor(overlapping.counted)
    loss = by_label(score(model, overlapping)[0], counted, overlapping.labels)
    kneser_ney = baseline(stream, model, tokenizer, plain_docs)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "heldout_tokens": int(counted.sum()),
        "stream_tokens": len(stream),
        "loss": loss,
        "kneser_ney_5": kneser_ney,
        "below_kneser_ney_5": round(kneser_ney["all"] - loss["all"], 4),
        "recall": recall_figures(model, recall),
        "experts": specialisation(use),
        "window_swap": window_costs(model, plain, recall),
        "keep_half": pruning_costs(model, plain, expert_use(model, ranking)[0]),
        "transformers": transformers_difference(folder, model, recall),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--few", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = evaluate(args.model, args.corpus, args.few)
    rows = [f'  "{key}": {json.dumps(value)}' for key, value in figures.items()]
    text = "{\n" + ",\n".join(rows) + "\n}\n"
    if not args.few:
        (args.model / "figures.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
