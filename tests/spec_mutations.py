"""Texts that someone, or something, might hand to the compiler in place of a spec.

In: whole specs and a number. Out: the bytes of one input, the same for the same number: real specs
with bytes or tokens changed, spliced specs, foreign characters, random bytes, and shapes that are
made to be deep, long or wrong in many places.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from spec_texts import OSS, SMOL

from surgery.grammar import scan

_STRANGE = (
    *("\x00", "\x07", "\x1b", "\x7f", "\x85", "\ufeff", "\u00a0", "\u2028", "\u200b", "\u202e"),
    *("\u2066", "\u0301", "\u00e9", "\u212a", "\uff10", "\u0661", "\u2260", "\u2192", "\u201c"),
    *("\U0001f4a3", "\U00010400", "\U000e0041", "\U0010ffff", "\t", "\r", "\r\n", "\x0b", "\\"),
)
_WORDS = (
    *scan.RESERVED,
    *scan.MARKS,
    *scan.FOLDS,
    *("parent", "traces", "x", "s", "@size", "@", '"std/nvidia.surg"', '"', "'", "#", "##", "$"),
    *("64K tok", "92%", "1.60x", "0", "-1", "1e30", "0.5", "8 layers", "3 GiB", "1_0", "1e999999"),
    *("local", "hf", "params", "weights", "kv", "memory", "throughput", "experts", "attention"),
    *("ffn", "retain", "window", "width", "noop", "full", "swap_one", "metric", "kl", "logits"),
    *("\n", "\n", "\n", "\nlet ", "\nrequire ", "\nchoose "),
)


def changed_bytes(rng: random.Random, text: str, _: str) -> bytes:
    """Up to twenty bytes are something else."""
    data = bytearray(text.encode())
    for _time in range(rng.randint(1, 20)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def changed_characters(rng: random.Random, text: str, _: str) -> bytes:
    """A few characters of ASCII are lost, doubled or something else."""
    text += "      \n"
    for _time in range(rng.randint(1, 6)):
        at = rng.randrange(len(text))
        new = rng.choice(("", text[at] * 2, chr(rng.randrange(32, 127))))
        text = text[:at] + new + text[at + 1 :]
    return text.encode()


def changed_tokens(rng: random.Random, text: str, other: str) -> bytes:
    """A few tokens are deleted, doubled, swapped or replaced by others."""
    # At least as many as can be deleted, because an example may be one word.
    parts = [*_tokens(text), *"\n \n \n"]
    for _time in range(rng.randint(1, 6)):
        at, to = rng.randrange(len(parts)), rng.randrange(len(parts))
        match rng.randrange(5):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, parts[at])
            case 2:
                parts[at], parts[to] = parts[to], parts[at]
            case 3:
                parts[at] = rng.choice(_WORDS)
            case _:
                parts[at] = rng.choice(_tokens(other))
    return "".join(parts).encode()


def _tokens(text: str) -> list[str]:
    """Words, numbers, marks and the blanks between them."""
    return re.findall(r'\w+|\s+|"[^"\n]*"|#[^\n]*|.', text)


def spliced(rng: random.Random, text: str, other: str) -> bytes:
    """The lines of two specs, cut somewhere and put together."""
    one, two = text.splitlines(keepends=True), other.splitlines(keepends=True)
    for _time in range(rng.randint(1, 3)):
        at, start = rng.randrange(len(one)), rng.randrange(len(two))
        one[at : at + rng.randint(0, 4)] = two[start : start + rng.randint(1, 12)]
    return "".join(one).encode()


def truncated(rng: random.Random, text: str, _: str) -> bytes:
    """A spec that is being typed: cut off, perhaps with the rest after a gap."""
    at = rng.randrange(len(text))
    rest = text[at + rng.randint(0, 200) :] if rng.random() < 0.5 else ""
    return (text[:at] + rest).encode()


def strange_characters(rng: random.Random, text: str, _: str) -> bytes:
    """Characters from far away: of other scripts, invisible, or that turn the line around."""
    for _time in range(rng.randint(1, 8)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(_STRANGE) + text[at:]
    return text.encode()


def random_bytes(rng: random.Random, _text: str, _other: str) -> bytes:
    """Noise, sometimes below a good first line."""
    noise = rng.randbytes(rng.choice((0, 1, 3, 40, 400, 4000)))
    if rng.random() < 0.5:
        noise = bytes(byte % 96 + 32 for byte in noise)
    return b"surg 1\n" * rng.randrange(2) + noise


def random_tokens(rng: random.Random, _text: str, _other: str) -> bytes:
    """Words and marks of the language in any order."""
    words = rng.choices(_WORDS, k=rng.choice((3, 30, 300)))
    return ("surg 1\n" + " ".join(words)).encode()


def deep(rng: random.Random, _text: str, _other: str) -> bytes:
    """Something inside of something inside of something."""
    n = rng.choice((30, 63, 64, 65, 150, 170, 1000, 20_000))
    opened, closed = rng.choice(_NESTS)
    inside = rng.choice(("1", "", "x", "parent.params"))
    closed = closed * rng.choice((n, n, n - 1, 0))
    where = rng.choice(
        ("let a = {}", "require {} >= 1", "choose ffn in layers where {} {{ keep }}")
    )
    return ("surg 1\n" + where.format(opened * n + inside + closed) + "\nminimize a\n").encode()


_NESTS = (
    *(("(", ")"), ("[", "]"), ("f(", ")"), ("f(a: ", ")"), ("-", ""), ("- ", ""), ("not ", "")),
    *(("if a then ", " else 1"), ("if ", " then 1 else 2"), ("if a then 1 else ", "")),
    *(("count(layers where ", ")"), ("sum(layers: ", ")"), ("x[", "]"), ("{", "}"), ("({[", "]})")),
    *(("min(", ")"), ("a = {", "}"), ("layers[", "]"), ("1..", ""), ('"', '"'), ("#", "")),
)


def long(rng: random.Random, _text: str, _other: str) -> bytes:
    """A chain or a list: `1 + 1 + 1`, `a.b.c`, `f()()()`."""
    n = rng.choice((20, 100, 150, 170, 1000, 20_000))
    first, link = rng.choice(_CHAINS)
    where = rng.choice(("let a = {}", "require {} >= 1", "machine a = {}", "emit runtime {}"))
    return ("surg 1\n" + where.format(first + link * n) + "\n").encode()


_CHAINS = (
    *(
        ("1", " + 1"),
        ("1", " * 9"),
        ("2", "/3"),
        ("a", " and a"),
        ("a", " or not a"),
        ("1", " < 2"),
    ),
    *(("a", ".b"), ("f", "()"), ("a", "[1]"), ("1", ", 1"), ("x is", " not"), ("1", " % 7 - 1")),
    *(("9", "9"), ("1.", "0"), ("1e", "9"), ("1", "_0"), ("[1", "]"), ("a", "b"), ("-", "-")),
    *(("x", "x "), ("@a", "-b"), ('"', "a"), ("#", "#"), ("", " "), ("", "\t\r"), ("a", "\u0301")),
)


def many(rng: random.Random, _text: str, _other: str) -> bytes:
    """The same statement over and over, right or wrong."""
    statement = rng.choice(_STATEMENTS)
    numbers = range(1, rng.choice((10, 60, 300, 2000)))
    # N is the number of the statement, P that of the one before.
    lines = (statement.replace("N", str(n)).replace("P", str(n - 1)) for n in numbers)
    return ("surg 1\n" + "\n".join(lines) + "\n").encode()


_STATEMENTS = (
    *(
        "let aN = 1",
        "let a = N",
        "let aN = b",
        "let aN = aN + 1",
        "let aN = bN * cN",
        "let bN = aN",
        "let aN = aP",
    ),
    *("let a = ", "lett aN = 1", "let aN 1", "let aN = (1", "choose x in layers {", "choose ffn"),
    *(
        "require aN >= 1",
        "require @a 1 >= 2",
        "require @aN params <= N GiB",
        "minimize 1",
        "}",
        ")",
    ),
    *('import "aN.surg" as aN', 'import "std/nvidia.surg" as aN', 'model mN = local("aN")'),
    *("input iN: ratio = N%", "fn fN(a: count) -> count = fN(a)", "prefer N", "aN", "aN = N", "$N"),
    *("dataset dN = local() { a = 1 }", "scenario sN on mN { prefill = N }", "surg N", "## N"),
    *(
        "choose ffn in layers { keep keep width N | N }",
        "emit runtime { a = N }",
        "recover { a { } }",
    ),
    *(
        'emit checkpoint "N"',
        "score sN = swap_one(metric: kl(logits), on: dN)",
        "# surg: allow(aN)",
    ),
)


def huge_line(rng: random.Random, text: str, _: str) -> bytes:
    """One line of about a megabyte."""
    piece = rng.choice((*_HUGE, *_WORDS)) or " "
    size = rng.choice((900_000, 999_000, 1_100_000))
    return (text[: rng.randrange(80)] + piece * (size // len(piece.encode()))).encode()


_HUGE = (
    *(
        "#",
        '"',
        "a",
        "9",
        " ",
        "\t",
        "(",
        ")",
        "[",
        "{",
        "-",
        "+",
        ".",
        "a.",
        "1+",
        "a(",
        "a,",
        "@",
    ),
    *(
        "not ",
        "let a = 1 ",
        "if ",
        "x ",
        "\u00e9",
        "\U0001f4a3",
        "1e",
        "_",
        "'",
        "\\",
        "\r",
        "1..2 ",
    ),
    *("\u200b", "\x00", "\u202e", "a = 1, ", "&&", "==", "count(layers", "# surg: allow(a) "),
)

_Maker = Callable[[random.Random, str, str], bytes]

_MAKERS: tuple[tuple[_Maker, int], ...] = (
    (changed_bytes, 120),
    (changed_characters, 160),
    (changed_tokens, 240),
    (spliced, 140),
    (truncated, 80),
    (strange_characters, 80),
    (random_bytes, 50),
    (random_tokens, 60),
    (deep, 30),
    (long, 20),
    (many, 19),
    (huge_line, 1),
)

KINDS = tuple(maker.__name__ for maker, _ in _MAKERS)
"""The kinds of input, by the name of what makes them."""


def make(number: int, seed: int, texts: Sequence[str] = (OSS, SMOL)) -> tuple[str, bytes]:
    """The kind of one input and its bytes, the same for the same number and seed."""
    (kind,) = random.Random(f"{seed} {number}").choices(KINDS, [weight for _, weight in _MAKERS])
    return kind, of_kind(kind, number, seed, texts)


def of_kind(kind: str, number: int, seed: int, texts: Sequence[str] = (OSS, SMOL)) -> bytes:
    """An input of a kind."""
    rng = random.Random(f"{kind} {seed} {number}")
    maker = next(maker for maker, _ in _MAKERS if maker.__name__ == kind)
    return maker(rng, rng.choice(texts), rng.choice(texts))
