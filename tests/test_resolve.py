from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from resolve_fixtures import refused, resolved, spec

from surgery import catalog
from surgery.arch import expected_tensors, family_of
from surgery.ir import Attention, Experts
from surgery.ops import Copy, Output
from surgery.sources.fetched import relative_name
from surgery.tensors import digest as tensors_digest
from surgery.tensors.headers import INDEX, SINGLE, open_checkpoint
from surgery.tensors.write import write_checkpoint
from surgery.untrusted import parse_json


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def copied(parents: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the tiny parents, to be broken."""
    return lambda name: Path(shutil.copytree(parents / name, tmp_path / "broken"))


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


# ---- A local directory -------------------------------------------------------------------------


def test_a_llama(parents: Path, cache: Path) -> None:
    model = resolved(spec(parents, "local", "llama"), cache)
    assert (model.name, model.source, model.family) == ("parent", "local:llama", "llama")
    assert (model.hidden, model.context, model.heads, model.kv_heads) == (64, 256, 4, 2)
    assert model.tied
    stored = open_checkpoint(parents / "llama").tensors
    assert {t.name: (t.shape, t.dtype) for t in model.tensors} == {
        t.name: (t.shape, t.dtype) for t in stored.values()
    }
    assert model.weights == sum(t.nbytes for t in stored.values())
    assert model.params == model.weights // 2
    assert [t.name for t in model.tensors] == sorted(model.files)


def test_a_gpt_oss(parents: Path, cache: Path) -> None:
    model = resolved(spec(parents, "local", "gpt_oss"), cache)
    assert model.layers[0].attention == Attention(4, 2, 32, 16)
    assert model.layers[1].attention == Attention(4, 2, 32, None)
    assert model.layers[1].mlp == Experts(8, 2, 64)
    assert set(model.files) == set(open_checkpoint(parents / "gpt_oss").tensors)


def test_the_digest_is_of_the_content(
    parents: Path, cache: Path, copied: Callable[[str], Path]
) -> None:
    first = resolved(spec(parents, "local", "llama"), cache)
    broken = copied("llama")
    assert resolved(spec(broken.parent, "local", "broken"), cache).digest == first.digest
    # One bit of one weight, with the size and time of the file as they were.
    times = os.stat(broken / SINGLE).st_mtime_ns
    data = bytearray((broken / SINGLE).read_bytes())
    data[-1] ^= 1
    (broken / SINGLE).write_bytes(data)
    os.utime(broken / SINGLE, ns=(times, times))
    changed = resolved(spec(broken.parent, "local", "broken"), cache)
    assert changed.digest != first.digest
    # One number of the config.
    data[-1] ^= 1
    (broken / SINGLE).write_bytes(data)
    assert resolved(spec(broken.parent, "local", "broken"), cache).digest == first.digest
    edit_config(broken, rms_norm_eps=1e-4)
    assert resolved(spec(broken.parent, "local", "broken"), cache).digest != first.digest


def test_the_digest_does_not_depend_on_sharding_or_place(
    parents: Path, cache: Path, copied: Callable[[str], Path]
) -> None:
    model = resolved(spec(parents, "local", "llama"), cache)
    broken = copied("llama")
    (broken / SINGLE).unlink()
    outputs = [
        Output(t.name, t.dtype, t.shape, t.nbytes, t.numel, Copy(t.name))
        for t in reversed(model.tensors)
    ]
    write_checkpoint(broken, model, outputs, 60_000)
    assert (broken / INDEX).exists()
    again = resolved(spec(broken.parent, "local", "broken"), cache / "other")
    assert again.digest == model.digest
    assert len({file.shard for file in again.files.values()}) > 1


def test_digests_are_remembered_until_the_file_changes(
    cache: Path, copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Files of the last two seconds are not trusted to show a change in their times.
    monkeypatch.setattr(tensors_digest, "_SETTLED_NS", 0)
    broken = copied("llama")
    asked = spec(broken.parent, "local", "broken")
    first = resolved(asked, cache).digest
    (entry,) = (cache / "digests").glob("*.json")
    assert resolved(asked, cache).digest == first
    known = entry.read_text()
    digest = json.loads(known)["sha256"]["model.norm.weight"]
    entry.write_text(known.replace(digest, "0" * 64))
    assert resolved(asked, cache).digest != first
    os.utime(broken / SINGLE, ns=(1, 1))
    assert resolved(asked, cache).digest == first
    entry.write_text("{")
    assert resolved(asked, cache).digest == first


def test_a_file_of_a_moment_ago_is_not_remembered(
    cache: Path, copied: Callable[[str], Path]
) -> None:
    broken = copied("llama")
    (broken / SINGLE).touch()
    resolved(spec(broken.parent, "local", "broken"), cache)
    assert not (cache / "digests").exists()


def test_a_config_alone_is_a_model_without_files(
    cache: Path, copied: Callable[[str], Path]
) -> None:
    broken = copied("gpt_oss")
    (broken / SINGLE).unlink()
    model = resolved(spec(broken.parent, "local", "broken"), cache)
    assert dict(model.files) == {}
    assert model.tensors == expected_tensors(family_of(model.config), model.config)


def test_a_location_may_be_anything_that_leads_there(parents: Path, cache: Path) -> None:
    absolute = resolved(spec(Path("elsewhere"), "local", str(parents / "llama")), cache)
    assert absolute.source == "local:llama"
    assert relative_name(Path("specs"), "a/b") == "a/b"
    assert relative_name(Path("specs"), "./b") == "b"


@pytest.mark.parametrize("location", ["llama", "../parents/llama", "..", "../../x/parents/llama"])
def test_names_in_artefacts_do_not_depend_on_where_surgery_runs(
    location: str, parents: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "x" / "parents"
    (tmp_path / "other").mkdir()
    shutil.copytree(parents / "llama", home / "llama")
    if location == "..":
        home = home / "llama" / "specs"
        home.mkdir()
    names: set[str] = set()
    for place in (home, home.parent, tmp_path / "other"):
        monkeypatch.chdir(place)
        folder = Path(os.path.relpath(home))
        names.add(resolved(spec(folder, "local", location), cache).source)
    assert names == {"local:llama"}


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("nowhere", "there is no directory `nowhere` here"),
        ("text.jsonl", "`text.jsonl` is a file, not a directory"),
        ("~nobody-here/x", "there is no directory `~nobody-here/x` here"),
        ("a\0b", r"there is no directory `a\x00b` here"),
    ],
)
def test_a_wrong_location_is_shown_in_the_spec(
    location: str, message: str, parents: Path, cache: Path
) -> None:
    asked = spec(parents, "local", location)
    found = refused(asked, cache)
    assert (found.code, found.message) == (catalog.E0005, message)
    assert found.primary is not None
    assert found.primary.span == asked.model.span


def test_an_empty_directory(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    asked = spec(tmp_path, "local", "./empty")
    found = refused(asked, cache)
    assert found.code is catalog.E0001
    assert found.message == "there is no `config.json` in `./empty`"
    assert found.primary is not None
    assert found.primary.span == asked.model.span
    assert [help.text for help in found.helps] == [
        "name the directory of a model: `config.json` says what its layers are"
    ]


# ---- Checkpoints and configs that disagree ------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message", "note"),
    [
        ({"num_hidden_layers": 5}, "9 missing", "missing: `model.layers.4.input_layernorm.weight`"),
        ({"num_hidden_layers": 3}, "9 unexpected", "unexpected: `model.layers.3.input_layern"),
        (
            {"intermediate_size": 96},
            "12 of another shape or dtype",
            "layers.0.mlp.down_proj.weight` is BF16 [64, 128], the config says BF16 [64, 96]",
        ),
        ({"tie_word_embeddings": False}, "1 missing", "missing: `lm_head.weight`"),
        ({"dtype": "float16"}, "38 of another shape or dtype", "is BF16 [257, 64], the config s"),
    ],
)
def test_a_contradiction_lists_the_tensors(
    changes: dict[str, object],
    message: str,
    note: str,
    cache: Path,
    copied: Callable[[str], Path],
) -> None:
    broken = copied("llama")
    edit_config(broken, **changes)
    found = refused(spec(broken.parent, "local", "broken"), cache)
    assert found.code is catalog.E0411
    assert found.message.endswith(message)
    assert any(note in line for line in found.notes)
    assert len(found.notes) <= 6


def test_a_config_without_a_dtype_takes_the_weights(
    cache: Path, copied: Callable[[str], Path]
) -> None:
    broken = copied("llama")
    edit_config(broken, dtype=None, torch_dtype=None)
    assert {t.dtype for t in resolved(spec(broken.parent, "local", "broken"), cache).tensors} == {
        "BF16"
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "`config.json` is not an object"),
        ('{"a": 1, "a": 1}', "`config.json` has the key `a` twice"),
        ('{"a": Infinity}', "`config.json` contains Infinity, which is no JSON"),
        ('{"a": 1e999}', "`config.json` contains the number 1e999, which is out of range"),
        ("{", "`config.json` is not JSON: expecting property name"),
    ],
)
def test_a_broken_config(
    text: str, message: str, cache: Path, copied: Callable[[str], Path]
) -> None:
    broken = copied("llama")
    (broken / "config.json").write_text(text)
    found = refused(spec(broken.parent, "local", "broken"), cache)
    assert found.code is catalog.E0004
    assert found.message.startswith(message)
    assert found.subject == str(broken / "config.json")


def test_a_truncated_shard_names_its_tensor(cache: Path, copied: Callable[[str], Path]) -> None:
    broken = copied("llama")
    os.truncate(broken / SINGLE, (broken / SINGLE).stat().st_size - 7)
    found = refused(spec(broken.parent, "local", "broken"), cache)
    assert found.code is catalog.E0004
    assert "misses 7 of 128 bytes" in found.message


def test_an_unknown_family_is_located(cache: Path, copied: Callable[[str], Path]) -> None:
    broken = copied("llama")
    edit_config(broken, model_type="mamba2")
    found = refused(spec(broken.parent, "local", "broken"), cache)
    assert (found.code, found.primary is None) == (catalog.E0401, False)
    assert found.message == "the model family `mamba2` is not supported"


def test_another_content_than_the_pinned_one(parents: Path, cache: Path) -> None:
    digest = resolved(spec(parents, "local", "llama"), cache).digest
    assert resolved(spec(parents, "local", "llama", sha256=digest), cache).digest == digest
    found = refused(spec(parents, "local", "llama", sha256="0" * 64), cache)
    assert found.code is catalog.E0412
    assert found.notes == (f"pinned: {'0' * 64}", f"here:   {digest}")


def test_strict_json_reads_ordinary_json() -> None:
    data = '{"a": [1, -2, 3.5, "é", null, true]}'.encode()
    assert parse_json(data, "x", "`x`") == {"a": [1, -2, 3.5, "é", None, True]}
