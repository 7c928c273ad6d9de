"""Bad inputs of a mixture of experts: each ends in its diagnostic and leaves nothing behind.

Every test runs `surgery plan` and `surgery compile` on a real small gpt-oss with packed experts,
then looks at all that the commands could have touched: the folder they ran in, the library, and the
folder of temporary files.
"""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Workplace, make_gpt_oss, write_text
from emit_fixtures import pack_experts, stored, tree
from msgspec import Struct

SPEC = """surg 1

import "std/nvidia.surg" as nvidia

model parent = local("moe")

machine node = 8 * nvidia.h100_sxm { expert_parallel = 4 }

scenario chat on node { prefill = 32 tok, decode = 32 tok, batch = 4 }

dataset text = local("text.jsonl") { take = 2, length = 32 tok, seed = 0 }
score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers {
  keep
  retain 4 by rank_experts("random", text)
}

require @size weights <= 90% * parent.weights
minimize damage
"""
FOREIGN = "the experts are stored in another layout than the config's"
EXPERTS = "model.layers.1.mlp.experts."


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gpt-oss of 4 layers with 8 packed experts, top-2."""
    folder = make_gpt_oss(tmp_path_factory.mktemp("packed") / "moe")
    pack_experts(folder)
    return folder


class Bench(Struct, frozen=True):
    """A folder with a parent of its own to break, and what a refused command leaves of it."""

    place: Workplace
    capsys: pytest.CaptureFixture[str]

    @property
    def parent(self) -> Path:
        """The parent's folder."""
        return self.place.folder / "moe"

    def configure(self, **changes: object) -> None:
        """Change keys of the parent's config; `None` removes one."""
        path = self.parent / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | changes
        config = {key: value for key, value in config.items() if value is not None}
        path.write_text(json.dumps(config), encoding="utf-8")

    def store(self, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
        """Change the parent's tensors."""
        tensors = stored(self.parent)
        change(tensors)
        save(tensors, self.parent / "model.safetensors")

    def refuse(self, spec: str = SPEC, code: int = 1) -> str:
        """What `plan` and `compile` say, which is the same; they leave the disk as it was."""
        self.place.write("bad.surg", spec)
        commands = (("plan", "made.plan"), ("compile", "made"))
        said = [self._refused(*each, code=code) for each in commands]
        assert said[0] == said[1]
        return said[0]

    def refuse_plan(self, plan: str, spec: str) -> str:
        """What `compile` says of a plan that was made before."""
        return self._refused("compile", "made", "--plan", plan, spec=spec)

    def _refused(
        self, command: str, out: str, *options: str, spec: str = "bad.surg", code: int = 1
    ) -> str:
        before = self._disk()
        self.capsys.readouterr()
        found = self.place.run(command, spec, "-o", out, *options)
        said = self.capsys.readouterr()
        assert (found, said.out) == (code, "")
        assert self._disk() == before
        assert "Traceback" not in said.err
        return said.err

    def _disk(self) -> dict[str, dict[str, bytes]]:
        """All that there is, by folder: bytes by path, links and empty folders included."""
        places = (self.place.folder, self.place.library, Path(tempfile.gettempdir()))
        found = {str(place): tree(place) for place in places}
        for place in places:
            found[str(place)] |= {f"{p}/": b"" for p in place.rglob("*") if p.is_dir()}
        return found


def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file with the library of that name."""
    library: Any = importlib.import_module("safetensors.torch")
    library.save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture
def bench(
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bench:
    """A copy of the packed parent, current while the test runs."""
    folders = [tmp_path / name for name in ("work", "library", "temporary")]
    for folder in folders:
        folder.mkdir()
    shutil.copytree(packed, folders[0] / "moe")
    write_text(folders[0] / "text.jsonl", documents=4)
    monkeypatch.chdir(folders[0])
    monkeypatch.setattr(tempfile, "tempdir", str(folders[2]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bench(Workplace(folders[0], folders[1]), capsys)


def changed(old: str, new: str) -> str:
    """The spec with one piece replaced."""
    assert SPEC.count(old) == 1
    return SPEC.replace(old, new)


# ---- in the spec -----------------------------------------------------------------------------


def test_top_k_above_the_kept_experts(bench: Bench) -> None:
    said = bench.refuse(changed("retain 4", "retain 4 | 1"))
    assert "error[E0406]: `retain 1` keeps fewer experts than the router activates" in said
    assert "1 kept, but each token is sent to 2" in said
    assert "8 experts, 2 active per token" in said


def test_top_k_raised_above_the_kept_experts(bench: Bench) -> None:
    said = bench.refuse(SPEC + "\napply router { active = 5 }\n")
    assert "error[E0406]: `retain 4` keeps fewer experts than the router activates" in said
    assert "4 kept, but each token is sent to 5" in said


def test_top_k_above_the_experts_of_the_config(bench: Bench) -> None:
    bench.configure(num_experts_per_tok=9, experts_per_token=None)
    said = bench.refuse()
    assert (
        "error[E0411]: config.json has a problem: 9 experts per token, but only 8 experts" in said
    )


def test_expert_parallel_size_that_does_not_divide_an_alternative(bench: Bench) -> None:
    said = bench.refuse(changed("retain 4", "retain 6 | 4"))
    message = "6 experts cannot be shared by 4 GPUs of `node`, each whole ones"
    assert f"error[E0417]: {message}" in said
    assert "^ 6 = 1 * 4 + 2" in said
    assert "4 GPUs share the experts of a layer here" in said


def test_expert_parallel_size_that_does_not_divide_the_parent(bench: Bench) -> None:
    said = bench.refuse(
        changed(
            "8 * nvidia.h100_sxm { expert_parallel = 4 }",
            "6 * nvidia.h100_sxm { expert_parallel = 3 }",
        )
    )
    message = "8 experts of the parent cannot be shared by 3 GPUs of `node`, each whole ones"
    assert f"error[E0417]: {message}" in said
    assert "8 = 2 * 3 + 2 in layers 0-3" in said
    assert "4 experts cannot be shared by 3 GPUs" in said


# ---- in the checkpoint -----------------------------------------------------------------------


def test_a_width_that_is_no_multiple_of_an_mxfp4_block(bench: Bench) -> None:
    bench.configure(intermediate_size=48)
    said = bench.refuse()
    assert "error[E0411]: config.json has a problem" in said
    assert "width 48 is no multiple of 32, an MXFP4 block" in said


def test_mxfp4_blocks_of_another_size(bench: Bench) -> None:
    """16 weights in a block and twice as many of them: as many bytes, another format."""
    name = f"{EXPERTS}down_proj_blocks"

    def halve(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name].reshape(8, 64, 4, 8)

    bench.store(halve)
    said = bench.refuse()
    assert "error[E0411]" in said
    assert f"`{name}` is U8 [8, 64, 4, 8], the config says U8 [8, 64, 2, 16]" in said


@pytest.mark.parametrize(
    "name", [f"{EXPERTS}gate_up_proj_scales", "model.layers.1.mlp.router.bias"]
)
def test_scales_or_router_bias_that_are_missing(name: str, bench: Bench) -> None:
    def lose(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[name]

    bench.store(lose)
    said = bench.refuse()
    assert "error[E0411]: the tensors of the checkpoint do not match its config: 1 missing" in said
    assert f"missing: `{name}`" in said


def test_scales_of_other_experts_than_the_blocks(bench: Bench) -> None:
    name = f"{EXPERTS}down_proj_scales"

    def lose(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name][:7].clone()

    bench.store(lose)
    assert f"`{name}` is U8 [7, 64, 2], the config says U8 [8, 64, 2]" in bench.refuse()


def test_a_scale_that_is_no_number(bench: Bench) -> None:
    """E8M0 has one NaN; it is found when the experts are first computed with."""
    name = f"{EXPERTS}down_proj_scales"

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name][3, 60, 1] = 255

    bench.store(spoil)
    said = bench.refuse(code=2)
    assert "error[E0004]: the MXFP4 scale at [3, 60, 1] is 255, which is no number" in said
    assert name in said


def shard(bench: Bench) -> tuple[Path, Path]:
    """Split the parent in two: blocks and scales of one matrix lie in different files."""
    tensors = stored(bench.parent)
    (bench.parent / "model.safetensors").unlink()
    paths = tuple(bench.parent / f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    index: dict[str, str] = {}
    for n, path in enumerate(paths):
        part = {k: v for k, v in tensors.items() if k.endswith("_scales") is (n == 1)}
        save(part, path)
        index |= dict.fromkeys(part, path.name)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (bench.parent / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return paths[0], paths[1]


def test_shards_that_are_swapped(bench: Bench) -> None:
    first, second = shard(bench)
    middle = first.with_suffix(".other")
    first.rename(middle)
    second.rename(first)
    middle.rename(second)
    said = bench.refuse()
    message = "`model.safetensors.index.json` and the headers of the shards differ in 79 tensors"
    assert f"error[E0411]: {message}" in said
    assert "index and shards must be of one download" in said


def test_layers_that_are_swapped_after_the_plan(bench: Bench) -> None:
    """Names, shapes and sizes are right: only the content tells."""
    bench.place.write("good.surg", SPEC)
    assert bench.place.run("plan", "good.surg", "-o", "good.plan") == 0
    one, other = (f"model.layers.{n}.mlp.experts.down_proj_blocks" for n in (0, 1))

    def swap(tensors: dict[str, torch.Tensor]) -> None:
        tensors[one], tensors[other] = tensors[other], tensors[one]

    bench.store(swap)
    said = bench.refuse_plan("good.plan", "good.surg")
    assert "error[E0801]" in said


# ---- foreign layouts -------------------------------------------------------------------------


def test_experts_with_tensors_of_their_own(bench: Bench) -> None:
    def split(tensors: dict[str, torch.Tensor]) -> None:
        biases = tensors.pop(f"{EXPERTS}down_proj_bias")
        for number, bias in enumerate(biases):
            tensors[f"{EXPERTS}{number}.down_proj.bias"] = bias.clone()

    bench.store(split)
    said = bench.refuse()
    assert "1 missing, 8 unexpected" in said
    assert f"unexpected: `{EXPERTS}0.down_proj.bias`" in said
    assert FOREIGN in said


def test_experts_that_are_not_packed(bench: Bench) -> None:
    bench.configure(quantization_config=None)
    said = bench.refuse()
    assert "8 missing, 16 unexpected" in said
    assert "unexpected: `model.layers.0.mlp.experts.down_proj_blocks`" in said
    assert FOREIGN in said


def test_experts_stored_the_other_way_round(bench: Bench) -> None:
    name = f"{EXPERTS}gate_up_proj_blocks"

    def turn(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name].transpose(1, 2).contiguous()

    bench.store(turn)
    said = bench.refuse()
    here = f"`{name}` is U8 [8, 2, 128, 16], the config says U8 [8, 128, 2, 16]"
    assert f"{here}: the same sizes in another order" in said


def test_experts_of_another_family(bench: Bench) -> None:
    """A Mixtral by its config, with the tensors that gpt-oss has."""
    bench.configure(model_type="mixtral", quantization_config=None)
    said = bench.refuse()
    assert "missing: `model.layers.0.block_sparse_moe.experts.0.w1.weight`" in said
    assert FOREIGN in said
