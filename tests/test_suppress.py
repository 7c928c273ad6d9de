"""`# surg: allow(name)`: where it counts, and what is wrong with one."""

from __future__ import annotations

import pytest
from lint_fixtures import CLEAN, WORLD, changed, codes, findings, fixed, linted, marked

from surgery import catalog, suppress
from surgery.diagnostics import Diagnostic, Label, Safety
from surgery.source import Source, Span

LABEL = "require @size weights"


def unlabelled(above: str = "", after: str = "") -> str:
    line = "require weights <= share * parent.weights"
    return changed(f"{LABEL} <= share * parent.weights", f"{above}{line}{after}")


def test_without_a_comment_it_is_found() -> None:
    assert codes(unlabelled()) == ["W0903"]


@pytest.mark.parametrize(
    ("above", "after"),
    [
        ("# surg: allow(unlabelled-requirement)\n", ""),
        ("#surg:allow(W0903)\n", ""),
        ("# surg: allow(W0903): the only one\n", ""),
        ("", "  # surg: allow(unlabelled-requirement)"),
        ("# surg: allow(unlabelled-requirement)\n# why: it is the only one\n## Doc.\n", ""),
    ],
)
def test_allowed_above_or_at_the_end(above: str, after: str) -> None:
    assert codes(unlabelled(above, after)) == []


@pytest.mark.parametrize(
    ("above", "after"),
    [
        ("# surg: allow(unlabelled-requirement)\n\n", ""),
        ("", "\n# surg: allow(unlabelled-requirement)"),
        ("# surg: allow(magic-number)\n", ""),
    ],
)
def test_not_allowed_from_elsewhere_and_unused(above: str, after: str) -> None:
    assert sorted(codes(unlabelled(above, after))) == ["W0901", "W0903"]


def test_several_names_in_one_comment() -> None:
    above = "# surg: allow(unlabelled-requirement, magic-number, W0902)\n"
    text = unlabelled(above)
    (found,) = findings(text)
    assert found.message == "nothing here needs `allow(magic-number, W0902)`"
    assert fixed(text, found, Safety.SAFE) == unlabelled("# surg: allow(unlabelled-requirement)\n")


@pytest.mark.parametrize("crlf", [False, True])
def test_an_unused_comment_goes_with_its_line(crlf: bool) -> None:
    above = changed("choose experts", "# surg: allow(missing-keep)\nchoose experts")
    after = changed("minimize damage", "minimize damage  # surg: allow(missing-keep) why")
    for unix in (above, after):
        text = unix.replace("\n", "\r\n") if crlf else unix
        (found,) = findings(text)
        assert found.code.id == "W0901"
        expected = CLEAN.replace("\n", "\r\n") if crlf else CLEAN
        assert fixed(text, found, Safety.SAFE) == expected


def test_what_nobody_looked_for_is_not_unused() -> None:
    # No parent at hand, so nothing is known about windows.
    text = changed("  window 128 tok", "  # surg: allow(no-op-window)\n  window 128 tok")
    assert codes(text) == []
    # A mistake hides what the rules would find.
    text = changed("minimize damage", "minimize damge", unlabelled("# surg: allow(W0903)\n"))
    assert codes(text) == ["E0201"]


def test_errors_cannot_be_allowed() -> None:
    text = changed("minimize damage", "# surg: allow(undefined-name)\nminimize damge")
    found = findings(text)
    assert [d.code.id for d in found] == ["W0904", "E0201"]
    assert found[0].message == "`undefined-name` is an error, and only lints can be allowed"


def test_an_unknown_name_is_told_with_what_it_resembles() -> None:
    text = unlabelled("# surg: allow(unlabeled-requirement)\n")
    found = findings(text, "W0904")[0]
    assert found.message == "there is no lint `unlabeled-requirement`"
    assert marked(found) == "unlabeled-requirement"
    after = fixed(text, found, Safety.UNSAFE)
    assert codes(after) == []


@pytest.mark.parametrize(
    ("comment", "problem"),
    [
        ("# surg: alow(W0903)", "a directive is written `# surg: allow(name, name)`"),
        ("# surg: allow W0903", "a directive is written `# surg: allow(name, name)`"),
        ("# surg: allow()", "this allows nothing"),
        ("## surg: allow(W0903)", "a directive is a comment with one `#`"),
    ],
)
def test_a_comment_that_begins_like_a_directive(comment: str, problem: str) -> None:
    text = changed("minimize", f"{comment}\nminimize")
    (found,) = findings(text)
    assert found.code.id == "W0904"
    assert found.primary is not None
    assert found.primary.text == problem


def test_comments_inside_strings_are_none() -> None:
    text = changed("share * parent.weights", 'share * parent.weights else "# surg: allow(W0903)"')
    assert codes(text) == []


def test_every_command_can_ask_what_is_visible() -> None:
    source = Source("a.surg", "surg 1\n# surg: allow(unused-name)\nlet a = 1\nlet b = 2\n")

    def at(code: catalog.Code, text: str) -> Diagnostic:
        start = source.text.index(text)
        return Diagnostic(code, "no", (Label(Span(source, start, start + 1), "", primary=True),))

    silent, other = at(catalog.W0201, "let a"), at(catalog.W0714, "let a")
    below, error = at(catalog.W0201, "let b"), at(catalog.E0201, "let a")
    nowhere = Diagnostic(catalog.W0717, "no", subject="x")
    found = (silent, other, below, error, nowhere)
    assert suppress.visible(found) == (other, below, error, nowhere)
    assert suppress.visible(()) == ()


def test_a_comment_counts_in_its_own_file_only() -> None:
    text = CLEAN + WORLD + "\nrequire @fast throughput(chat) >= 1 tok/s\n"
    assert {d.code.id for d in linted(text).findings} == {"W0709", "W0710"}
    text = text.replace("require @fast", "# surg: allow(W0709)\nrequire @fast")
    assert {d.code.id for d in linted(text).findings} == {"W0710"}
