"""`surgery lint`: which files, what is printed where, exit codes, and files that are mended."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, Workplace
from lint_fixtures import CLEAN, changed, linted

from surgery.cli import main
from surgery.diagnostics import Sink
from surgery.linting import run
from surgery.source import Source

UNUSED = changed("\nchoose experts", "\nlet a = 2\n\nchoose experts")
UNLABELLED = changed("@size ", "")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with its own cache."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def write(text: str, name: str = "a.surg") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


# ---- answers ---------------------------------------------------------------------------------


def test_a_clean_spec(capsys: pytest.CaptureFixture[str]) -> None:
    write(CLEAN)
    assert main(["lint", "a.surg"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "note: a.surg: what depends on the model was left out: the model `parent` is not at hand: "
        "local(no such folder)\n1 spec is clean\n"
    )


def test_findings_go_to_stdout_and_the_count_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    write(UNUSED)
    assert main(["lint", "a.surg", "--format", "concise"]) == 1
    out, err = capsys.readouterr()
    assert out == "a.surg:17:5: warning[W0201] [*]: the `let` `a` is never used\n"
    assert err.endswith("1 warning in 1 spec (1 fixable with --fix)\n")


def test_unsafe_fixes_are_counted_apart(capsys: pytest.CaptureFixture[str]) -> None:
    write(UNUSED.replace("@size ", ""))
    assert main(["lint", "a.surg"]) == 1
    out, err = capsys.readouterr()
    assert "note: this is an unsafe fix" in out
    assert err.endswith(
        "2 warnings in 1 spec (1 fixable with --fix, 1 more with --fix --unsafe-fixes)\n"
    )


def test_folders_and_several_specs(capsys: pytest.CaptureFixture[str]) -> None:
    write(UNUSED, "b/x.surg")
    write(UNLABELLED, "b/c/y.surg")
    write(CLEAN, "b/c/z.surg")
    write("no spec", "b/c/z.txt")
    write("no spec", "b/.hidden/z.surg")
    assert main(["lint", "b", "b/x.surg", "--format", "concise"]) == 1
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["b/c/y.surg", "b/x.surg"]
    assert "2 warnings in 2 specs" in err
    # The folder at hand is what is meant when nothing is said.
    assert main(["lint", "--format", "concise"]) == 1
    assert capsys.readouterr().out == out


def test_what_cannot_be_read_is_not_told_apart_from_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(UNUSED)
    Path("empty").mkdir()
    assert main(["lint", "a.surg", "gone.surg", "empty", "--format", "concise"]) == 2
    out, _ = capsys.readouterr()
    assert "gone.surg: error[E0001]: cannot read `gone.surg`" in out
    assert "empty: error[E0001]: there is no spec below `empty`" in out
    assert "a.surg:17:5: warning[W0201]" in out


def test_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(UNUSED.encode())))
    assert main(["lint", "-", "--format", "concise"]) == 1
    assert capsys.readouterr().out.startswith("<stdin>:17:5: warning[W0201]")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(UNUSED.encode())))
    assert main(["lint", "-", "--fix"]) == 0
    assert capsys.readouterr().out == CLEAN


def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    write(UNUSED)
    assert main(["lint", "a.surg", "--format", "json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["code"] == "W0201"
    assert found["helps"][0]["fix"]["safety"] == "safe"
    write(CLEAN)
    assert main(["lint", "a.surg", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_inputs_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    write(CLEAN)
    assert main(["lint", "a.surg", "--set", "share=2GB", "--format", "concise"]) == 2
    assert "error[E0208]" in capsys.readouterr().out
    assert main(["lint", "a.surg", "--set", "share"]) == 2


def test_levels_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    write(UNUSED)
    write('[tool.surgery.lint]\nunused-name = "allow"\n', "pyproject.toml")
    assert main(["lint", "a.surg"]) == 0
    write('[tool.surgery.lint]\nunused-name = "deny"\n', "pyproject.toml")
    assert main(["lint", "a.surg", "--format", "concise"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("a.surg:17:5: error[W0201]")
    assert "1 error in 1 spec" in err
    write('[tool.surgery.lint]\nunused-nam = "deny"\n', "pyproject.toml")
    assert main(["lint", "a.surg", "--format", "concise"]) == 2
    assert (
        "pyproject.toml:2:1: error[E0012]: there is no lint `unused-nam`" in capsys.readouterr().out
    )


# ---- mending ---------------------------------------------------------------------------------


def test_fix_writes_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(UNUSED.replace("@size ", ""))
    assert main(["lint", "a.surg", "--fix", "--format", "concise"]) == 1
    out, err = capsys.readouterr()
    assert path.read_text() == UNLABELLED
    assert out == "a.surg:27:1: warning[W0903]: this requirement has no label\n"
    assert err.endswith("fixed 1 finding; 1 warning in 1 spec (1 more with --unsafe-fixes)\n")
    assert main(["lint", "a.surg", "--fix", "--unsafe-fixes"]) == 0
    assert path.read_text() == CLEAN.replace("@size", "@weights")
    assert "fixed 1 finding; 1 spec is clean" in capsys.readouterr().err


def test_fix_keeps_the_file_as_it_is_otherwise() -> None:
    path = Path("a.surg")
    path.write_bytes("\ufeff".encode() + UNUSED.replace("\n", "\r\n").encode())
    Path("link.surg").symlink_to(path)
    assert main(["lint", "link.surg", "--fix"]) == 0
    assert Path("link.surg").is_symlink()
    assert path.read_bytes() == "\ufeff".encode() + CLEAN.replace("\n", "\r\n").encode()


def test_a_clean_file_is_not_written() -> None:
    path = write(CLEAN)
    before = path.stat()
    assert main(["lint", "a.surg", "--fix"]) == 0
    assert path.stat().st_ino == before.st_ino


def test_diff_shows_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(UNUSED)
    assert main(["lint", "a.surg", "--diff"]) == 1
    out, err = capsys.readouterr()
    assert path.read_text() == UNUSED
    assert [line for line in out.splitlines() if line[0] in "+-"] == [
        "--- a.surg",
        "+++ a.surg",
        "-let a = 2",
        "-",
    ]
    assert err.endswith("would fix 1 finding; 1 spec is clean\n")
    write(CLEAN)
    assert main(["lint", "a.surg", "--diff"]) == 0
    assert capsys.readouterr().out == ""


def test_imported_files_are_mended_only_when_they_are_named() -> None:
    part = 'surg 1\n\nimport "std/kv.surg" as kv\n\nfn half(r: ratio) -> ratio = r / 2\n'
    write(part, "part.surg")
    text = changed("model parent", 'import "part.surg" as part\n\nmodel parent')
    write(text.replace("share *", "part.half(share) *"))
    assert main(["lint", "a.surg", "--fix"]) == 0
    assert Path("part.surg").read_text() == part
    assert main(["lint", ".", "--fix"]) == 0
    assert Path("part.surg").read_text() == part.replace('import "std/kv.surg" as kv\n\n', "")


# ---- with a parent ---------------------------------------------------------------------------


def test_a_parent_at_hand_is_looked_at_and_left_alone(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GPT_OSS_SPEC.replace(
        "choose attention in layers where attention is full", "choose attention in layers"
    )
    workplace.write("b.surg", text)
    assert main(["lint", "b.surg", "--format", "concise"]) == 1
    out, err = capsys.readouterr()
    assert "not at hand" not in err
    assert "E0408" in out
    assert not (workplace.folder / ".surgery").exists()


def test_steps_can_be_taken_one_by_one(workplace: Workplace) -> None:
    source = Source("b.surg", GPT_OSS_SPEC)
    sink = Sink()
    subject = run.read(source, sink)
    assert subject.spec is not None
    model, skipped = run.parent(subject.spec, Path("no such cache"))
    assert model is not None
    assert skipped == ""
    full = run.surround(subject, model, sink)
    assert full.space is not None
    assert len(full.space.model.layers) == 4
    whole = run.lint(source, run.Options(Path("no such cache")))
    assert run.conclude(full, sink.found, run.Levels()) == whole.findings


def test_a_spec_with_mistakes_tells_them_and_what_the_text_alone_shows() -> None:
    text = changed("weights <= share", "weights <= 1B params + share").replace("@size ", "")
    assert [d.code.id for d in linted(text).findings] == ["W0903", "E0301"]


def test_linting_loads_nothing_heavy() -> None:
    code = (
        "import sys; from surgery.cli import main; main(['lint', sys.argv[1]]);"
        "heavy = {'torch', 'transformers', 'numpy', 'scipy', 'cvxpy', 'highspy'};"
        "heavy &= sys.modules.keys();"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    spec = Path(__file__).parent.parent / "specs" / "quickstart.surg"
    done = subprocess.run(
        [sys.executable, "-c", code, str(spec)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["quickstart", "smollm2-135m"])
def test_the_specs_that_ship_are_clean(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parent.parent
    monkeypatch.chdir(root)
    assert main(["lint", f"specs/{name}.surg"]) == 0


def test_the_standard_files_are_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert main(["lint", "surgery/std"]) == 0
