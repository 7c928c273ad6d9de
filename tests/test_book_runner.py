"""The runner of the book, on small chapters of its own: what it must refuse, and what it renews."""

from __future__ import annotations

from pathlib import Path

import book_runner
import pytest
from book_chapters import ChapterError, Section, rewrite, sections

PREAMBLE = """# A chapter

```surg preamble
surg 1

model parent = local("nowhere")

minimize params
```
"""


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    (tmp_path / "book").mkdir()
    return tmp_path / "book" / "chapter.md"


def only_section(chapter: Path, text: str) -> Section:
    chapter.write_text(PREAMBLE + text, encoding="utf-8")
    (section,) = sections(chapter)
    return section


def outcome(section: Section, tmp_path: Path, attempt: int = 0) -> book_runner.Outcome:
    folder, parents = tmp_path / f"work{attempt}", tmp_path / "parents"
    parents.mkdir(exist_ok=True)
    folder.mkdir()
    return book_runner.run(section, folder, parents)


RIGHT = """
## A word

```surg check
require @size parms <= 1K  # error: [E0201] "`parms`"
```
"""


def test_what_is_told_and_found_passes(chapter: Path, tmp_path: Path) -> None:
    found = outcome(only_section(chapter, RIGHT), tmp_path)
    assert found.failures == []
    assert found.stale == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('  # error: [E0201] "`parms`"', "", "unexpected finding: spec.surg:7:15: error[E0201]"),
        ("`parms`", "`other`", 'expected error[E0201] "`other`" on this line'),
        ("E0201", "E0301", 'expected error[E0301] "`parms`" on this line'),
        ("error:", "warning:", 'expected warning[E0201] "`parms`" on this line'),
        ("parms <=", "params <=", 'expected error[E0201] "`parms`" on this line'),
    ],
)
def test_what_is_told_must_be_found_and_the_reverse(
    chapter: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = RIGHT.replace(old, new)
    assert text != RIGHT
    found = outcome(only_section(chapter, text), tmp_path)
    assert any(each.startswith("book/chapter.md:14: ") and said in each for each in found.failures)


def test_a_mark_alone_on_its_line_speaks_of_the_next_and_is_not_written(
    chapter: Path, tmp_path: Path
) -> None:
    moved = RIGHT.replace(
        'require @size parms <= 1K  # error: [E0201] "`parms`"',
        '# error: [E0201] "`parms`"\nrequire @size parms <= 1K',
    )
    found = outcome(only_section(chapter, moved), tmp_path)
    assert found.failures == []
    written = (tmp_path / "work0" / "spec.surg").read_text(encoding="utf-8")
    assert written.splitlines()[-3:] == ["minimize params", "", "require @size parms <= 1K"]


STALE = """
## A snapshot

```surg check
require @size parms <= 1K  # error: [E0201] "`parms`"
```

```diagnostic
something else
```

Prose between.

```python
print("one")
```

```output
two
```
"""


def test_a_stale_snapshot_fails_and_can_be_renewed(chapter: Path, tmp_path: Path) -> None:
    section = only_section(chapter, STALE)
    found = outcome(section, tmp_path)
    assert found.failures == []
    assert sorted(found.stale) == [1, 3]
    first, second = found.complaints(section)
    assert first.startswith("book/chapter.md:17: this snapshot is stale")
    assert second.startswith("book/chapter.md:27: this snapshot is stale")

    rewrite(section, found.stale)
    (renewed,) = sections(chapter)
    again = outcome(renewed, tmp_path, 1)
    assert again.complaints(renewed) == []
    assert list(again.printed) == ["E0201"]
    text = chapter.read_text(encoding="utf-8")
    assert "error[E0201]: there is no name `parms` here" in text
    assert "Prose between." in text
    assert "something else" not in text


def test_a_finding_without_a_line_must_be_shown(chapter: Path, tmp_path: Path) -> None:
    config = "\n## Bare\n\n```file nowhere/config.json\n[]\n```\n"
    bare = f"{config}\n```surg\nrequire params <= 1K params\n```\n"
    found = outcome(only_section(chapter, bare), tmp_path)
    assert [each.partition("error")[2][:7] for each in found.failures] == ["[E0004]"]
    shown = outcome(only_section(chapter, f"{bare}\n```diagnostic\n```\n"), tmp_path, 1)
    assert shown.failures == []
    assert shown.stale[2].startswith("error[E0004]: ")


def test_a_transcript_shows_output_and_exit_code(chapter: Path, tmp_path: Path) -> None:
    text = "\n## Lost\n\n```console\n$ surgery check lost.surg\n```\n"
    section = only_section(chapter, text)
    found = outcome(section, tmp_path)
    assert found.stale[0].startswith("$ surgery check lost.surg\nerror[E0001]: ")
    assert found.stale[0].endswith("[exit 2]\n")
    rewrite(section, found.stale)
    (renewed,) = sections(chapter)
    assert outcome(renewed, tmp_path, 1).complaints(renewed) == []


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```python\nraise ValueError('no')\n```\n", "chapter.md:13: this block raises"),
        ("```python\nprint(1)\n```\n", "what this prints needs an `output` block"),
        ("```output\n1\n```\n", "an `output` block follows a `python` block"),
        ("```console\nls\n```\n", "a `console` block needs a line `$ surgery ...`"),
        ("```console\n$ ls\n```\n", "transcripts run `surgery` and `cat`, not `ls`"),
        ("```surg lnt\n\n```\n", "`surg` blocks know no `lnt`"),
        ("```file\n\n```\n", "a `file` block names one path"),
    ],
)
def test_blocks_that_cannot_be_run(chapter: Path, tmp_path: Path, block: str, said: str) -> None:
    found = outcome(only_section(chapter, f"\n## A block\n\n{block}"), tmp_path)
    assert any(said in each for each in found.failures), found.failures


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```snapshot\n```\n", "chapter.md:1: no block kind `snapshot`"),
        ("text\n```surg\nsurg 1\n", "chapter.md:2: this block is not closed"),
        ("## a\n```surg\n```\n## a\n```surg\n```\n", "chapter.md:5: a second section `a`"),
    ],
)
def test_chapters_that_cannot_be_read(chapter: Path, text: str, said: str) -> None:
    chapter.write_text(text, encoding="utf-8")
    with pytest.raises(ChapterError) as raised:
        sections(chapter)
    assert said in str(raised.value)
