"""Train the byte-level BPE tokenizer and turn the training text into one token stream.

In: `CORPUS/train.jsonl` of corpus.py.
Out: tokenizer.json, tokenizer_config.json and special_tokens_map.json in MODEL, and
`CORPUS/stream.npy`: every training document once, in a fixed shuffled order, each followed by the
end-of-text token (uint16). Refuses: text that does not survive a round trip.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 3072
END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"


def read_documents(path: Path) -> list[dict[str, str]]:
    """Read a JSONL file of documents."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Learn the merges; single digits, and no merge across words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the three files that AutoTokenizer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PAD}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
        **names,
    }
    for name, content in (("tokenizer_config", settings), ("special_tokens_map", names)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def make_stream(tokenizer: Tokenizer, texts: list[str], seed: int) -> np.ndarray:
    """Concatenate the documents, shuffled, with an end-of-text token after each."""
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    end = tokenizer.token_to_id(END_OF_TEXT)
    stream = list[int]()
    for start in range(0, len(order), 256):
        batch = [texts[index] for index in order[start : start + 256]]
        for text, encoding in zip(batch, tokenizer.encode_batch(batch), strict=True):
            if tokenizer.decode(encoding.ids) != text:
                raise SystemExit(f"no round trip: {text[:60]!r}")
            stream += [*encoding.ids, end]
    return np.array(stream, dtype=np.uint16)


def main() -> None:
    """Train, save, encode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    texts = [doc["text"] for doc in read_documents(args.corpus / "train.jsonl")]
    tokenizer = train_tokenizer(texts)
    save_tokenizer(tokenizer, args.model)
    stream = make_stream(tokenizer, texts, args.seed)
    np.save(args.corpus / "stream.npy", stream)
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(stream)} tokens, {size / len(stream):.2f} bytes a token")


if __name__ == "__main__":
    main()
