"""Make long-range recall documents: what comes late repeats what came early, a window away.

In: the plain documents of corpus.py and the tokenizer.
Out: `CORPUS/recall.npz` for training (tokens [N, 512] uint16, a mask of the recalled tokens, and
shorter "drills" of the same form), and `TEXT/heldout.jsonl`, `TEXT/calibration.jsonl`: the plain
documents of those parts with recall documents made from them appended; "answers" are the character
spans that can be recalled.
Three kinds: "copy" repeats a span of real text after other text, "random" repeats a list of random
words, "lookup" lists `Name: value` lines and asks for them again after other text. Every repeat
lies more than 64 tokens after its source.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizer import END_OF_TEXT, read_documents
from tokenizers import Tokenizer

LENGTH = 512
KINDS = ("copy", "random", "lookup")
SHARES = (0.4, 0.3, 0.3)
Segment = tuple[str, bool]  # (text, can it be recalled?)


class Maker:
    """Makes recall documents from a list of passages and a list of words."""

    def __init__(self, tokenizer: Tokenizer, passages: Sequence[str], words: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.passages = [tokenizer.encode(text) for text in passages]
        self.texts = passages
        self.words = words

    def passage(self, rng: random.Random, tokens: int) -> str:
        """Cut a span of about `tokens` tokens out of a random passage, at word boundaries."""
        while True:
            index = rng.randrange(len(self.texts))
            offsets, text = self.passages[index].offsets, self.texts[index]
            if len(offsets) <= tokens + 1:
                continue
            first = rng.randrange(len(offsets) - tokens - 1)
            span = text[offsets[first][0] : offsets[first + tokens][0]]
            head = span.find(" ")
            if 0 <= head < 40:
                return span[head:].strip()

    def copy(self, rng: random.Random) -> list[Segment]:
        """Repeat a span of real text after other text."""
        span = self.passage(rng, rng.randint(80, 190))
        lead = " ".join(span.split(" ")[:4])
        return [
            (self.passage(rng, rng.randint(8, 60)) + "\n\n", False),
            (span + "\n\n", False),
            (self.passage(rng, rng.randint(70, 130)) + "\n\n", False),
            (lead, False),
            (span[len(lead) :], True),
            ("\n\n" + self.passage(rng, 400), False),
        ]

    def random(self, rng: random.Random, longest: int = 100) -> list[Segment]:
        """Repeat a list of random words until the document is full."""
        words = [rng.choice(self.words) for _ in range(rng.randint(longest // 2, longest))]
        lead, rest = " " + " ".join(words[:3]), " " + " ".join(words[3:])
        segments: list[Segment] = [(lead.strip() + rest, False)]
        for _ in range(6):
            segments += [(lead, False), (rest, True)]
        return segments

    def lookup(self, rng: random.Random) -> list[Segment]:
        """List `Name: value` lines, then ask for each of them after other text."""
        names = rng.sample(self.words, rng.randint(8, 18))
        pairs = [(n.capitalize(), " ".join(rng.choices(self.words, k=2))) for n in names]
        listing = "".join(f"{name}: {value}\n" for name, value in pairs)
        segments: list[Segment] = [(listing + "\n", False)]
        for _ in range(4):
            segments.append((self.passage(rng, rng.randint(70, 110)) + "\n\n", False))
            rng.shuffle(pairs)
            for name, value in pairs:
                segments += [(f"{name}:", False), (f" {value}", True), ("\n", False)]
            segments.append(("\n", False))
        return segments

    def drill(self, rng: random.Random) -> list[Segment]:
        """Repeat a shorter list, for the steps in which recall is first learnt."""
        return self.random(rng, 66)

    def make(
        self, kind: str, rng: random.Random
    ) -> tuple[list[int], list[bool], str, list[list[int]]]:
        """Give (tokens, mask, text, answer spans), cut to LENGTH - 1 tokens and an end."""
        segments: list[Segment] = getattr(self, kind)(rng)
        text, spans = "", list[list[int]]()
        for part, recalled in segments:
            if recalled:
                spans.append([len(text), len(text) + len(part)])
            text += part
        encoding = self.tokenizer.encode(text)
        offsets = encoding.offsets[: LENGTH - 1]
        end = offsets[-1][1]
        mask, place = list[bool](), 0
        for first, last in offsets:
            while place < len(spans) and spans[place][1] <= first:
                place += 1
            mask.append(place < len(spans) and spans[place][0] <= first and last <= spans[place][1])
        spans = [[first, min(last, end)] for first, last in spans if first < end]
        tokens = [*encoding.ids[: LENGTH - 1], self.tokenizer.token_to_id(END_OF_TEXT)]
        return tokens, [*mask, False], text[:end], spans


def make_training(
    maker: Maker, kinds: Sequence[str], count: int, rng: random.Random
) -> tuple[np.ndarray, np.ndarray]:
    """Make training sequences of some kinds, in the fixed shares."""
    tokens, masks = list[list[int]](), list[list[bool]]()
    while len(tokens) < count:
        ids, mask, _, _ = maker.make(rng.choices(kinds, SHARES[: len(kinds)])[0], rng)
        if len(ids) == LENGTH:
            tokens.append(ids)
            masks.append(mask)
    return np.array(tokens, dtype=np.uint16), np.array(masks)


def write_text(
    path: Path, plain: list[dict[str, str]], maker: Maker, count: int, seed: int
) -> None:
    """Write the plain documents of a part, then `count` recall documents of each kind."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for doc in plain:
            file.write(json.dumps(doc, ensure_ascii=False) + "\n")
        for number, kind in enumerate(k for k in KINDS for _ in range(count)):
            _, _, text, spans = maker.make(kind, rng)
            entry = {
                "text": text,
                "domain": "recall",
                "kind": kind,
                "id": f"recall-{number:03d}",
                "answers": spans,
            }
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def common_words(texts: Sequence[str], count: int) -> list[str]:
    """List the most common all-lower-case words of the training text, alphabetically."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in text.split():
            if word.isascii() and word.isalpha() and word.islower() and len(word) > 2:
                counts[word] = counts.get(word, 0) + 1
    return sorted(sorted(counts, key=lambda word: (-counts[word], word))[:count])


def main() -> None:
    """Make the training sequences and the two text files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    train = [doc["text"] for doc in read_documents(args.corpus / "train.jsonl")]
    words = common_words(train, 6000)
    maker = Maker(tokenizer, train, words)
    rng = random.Random(args.seed)
    tokens, masks = make_training(maker, KINDS, args.count, rng)
    drills = dict(
        zip(("drills", "drill_masks"), make_training(maker, ["drill"], 1000, rng), strict=True)
    )
    np.savez(args.corpus / "recall.npz", tokens=tokens, masks=masks, **drills)
    print(f"{len(tokens)} sequences, {masks.mean():.3f} of their tokens recalled")
    (args.model / "text").mkdir(parents=True, exist_ok=True)
    for number, (part, count) in enumerate((("heldout", 24), ("calibration", 12))):
        plain = read_documents(args.corpus / f"{part}.jsonl")
        maker = Maker(tokenizer, [doc["text"] for doc in plain], words)
        path = args.model / "text" / f"{part}.jsonl"
        write_text(path, plain, maker, count, args.seed + 1 + number)


if __name__ == "__main__":
    main()
