"""`git diff` of plans and specs, in real repositories."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from plan_fixtures import changed, example

from surgery import git, lockfile
from surgery.cli import main
from surgery.ir import Scales, Site


def run(folder: Path, *arguments: str) -> str:
    """What git prints; it knows this installation's `surgery`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("EMAIL",)}
    names |= {"GIT_AUTHOR_NAME": "x", "GIT_COMMITTER_NAME": "x", "GIT_CONFIG_GLOBAL": os.devnull}
    environment = {**os.environ, **names, "PATH": path, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ("git", *arguments), cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty work tree, entered."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    run(tmp_path, "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commit(tree: Path, **files: str) -> None:
    for name, content in files.items():
        (tree / name.replace("_", ".")).write_text(content, encoding="utf-8")
    run(tree, "add", "--all")
    run(tree, "commit", "--quiet", "--message", "a plan")


def test_a_commit_pair_reads_well(tree: Path) -> None:
    assert main(["install-git"]) == 0
    commit(tree, a_plan=lockfile.text(example()), a_spec="")
    commit(tree, a_plan=lockfile.text(changed()))
    told = run(tree, "diff", "HEAD~1", "HEAD", "--word-diff=plain", "--unified=0")
    assert "layer 03 [-attention=window(8K)#ababab-]{+attention=full+}" in told
    # Which slices are kept is no part of it, and hashes are short.
    assert "kept" not in told
    assert "sha256:11111111\n" not in told
    assert "[-sha256:11111111-]{+sha256:44444444+}" in told
    hunks = [line for line in told.splitlines() if line.startswith("@@")]
    assert any("layer 0" in line for line in hunks)


def test_specs_have_hunk_headers(tree: Path) -> None:
    assert main(["install-git"]) == 0
    filler = "\n".join(f"  # {n}" for n in range(8))
    text = f"surg 1\n\nchoose experts in layers {{\n{filler}\n  retain 8 by x\n}}\n"
    commit(tree, a_surg=text)
    commit(tree, a_surg=text.replace("retain 8", "retain 4"))
    told = run(tree, "diff", "HEAD~1", "HEAD", "--unified=1")
    assert "@@ choose experts in layers {" in told


def test_a_file_that_is_no_plan_is_compared_as_it_is(tree: Path) -> None:
    assert main(["install-git"]) == 0
    commit(tree, a_plan=lockfile.text(example()))
    commit(tree, a_plan="<<<<<<< not a plan\n")
    assert "+<<<<<<< not a plan" in run(tree, "diff", "HEAD~1", "HEAD")


def test_installing_twice_adds_nothing_and_uninstalling_leaves_nothing(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (tree / ".git" / "config").read_text()
    (tree / ".gitattributes").write_text("*.bin binary")
    assert main(["install-git"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(git.ATTRIBUTES) + len(git.SETTINGS)
    written = (tree / ".gitattributes").read_text()
    assert written.splitlines() == ["*.bin binary", *git.ATTRIBUTES]
    assert main(["install-git"]) == 0
    assert (tree / ".gitattributes").read_text() == written
    assert capsys.readouterr().out == "all is set up already\n"
    assert main(["install-git", "--uninstall"]) == 0
    assert (tree / ".gitattributes").read_text() == "*.bin binary\n"
    assert (tree / ".git" / "config").read_text() == config
    (tree / ".gitattributes").unlink()
    assert main(["install-git"]) == 0
    assert main(["install-git", "--uninstall"]) == 0
    assert not (tree / ".gitattributes").exists()


def test_settings_of_ones_own_stay(tree: Path) -> None:
    run(tree, "config", "diff.surg.xfuncname", "^my own")
    assert main(["install-git", "--uninstall"]) == 0
    assert run(tree, "config", "diff.surg.xfuncname") == "^my own\n"


def test_outside_of_a_work_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert main(["install-git"]) == 2
    assert "cannot set up git here: not a git repository" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_text_for_git_tells_every_decision() -> None:
    plan = lockfile.short(example())
    cached = replace(plan.decisions[0], text="full+fp8", artefact="ab" * 3, scales=Scales(0.5, 2.0))
    plan = replace(plan, decisions=(cached, *plan.decisions[1:]))
    told = git.for_diff(plan).splitlines()
    layers = [line for line in told if line.startswith("layer ")]
    assert tuple(layers) == lockfile.decision_lines(plan)
    assert layers[0].startswith("layer 00 attention=full+fp8#ababab ")
    assert {decided.site for decided in plan.decisions} == {Site.ATTENTION, Site.EXPERTS}
    assert not any(line.startswith(("kept", "scales")) for line in told)
