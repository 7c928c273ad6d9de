"""The machines of `std/`, and how a machine shares a model among its GPUs."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from check_fixtures import BASE, findings, good

from surgery import machines
from surgery.cli import main
from surgery.costing import parallel
from surgery.costing.parallel import Parallel
from surgery.ir import Attention, Machine
from surgery.passes.sharding import trouble


def node(fields: str = "", gpus: int = 8) -> Machine:
    text = BASE + f"machine mine = {gpus} * nvidia.h100_sxm {{ {fields} }}\n"
    return next(each for each in good(text).machines if each.name == "mine")


def fault(fields: str, gpus: int = 8) -> tuple[str, str]:
    text = BASE + f"machine mine = {gpus} * nvidia.h100_sxm {{ {fields} }}\n"
    (found,) = findings(text)
    assert found.code.id == "E0309"
    assert found.primary is not None
    return found.message, found.primary.text


def test_every_machine_has_what_a_roofline_needs() -> None:
    found = machines.known()
    assert len(found) == 11
    assert len({each.name for each in found}) == len(found)
    for each in found:
        fields = dict(each.fields)
        assert {"memory", "bandwidth", "compute"} <= fields.keys(), each.name
        # Narrower numbers are never slower, and reading memory takes milliseconds, not hours.
        narrow = [fields[n] for n in ("compute", "compute_fp8", "compute_fp4") if n in fields]
        assert narrow == sorted(narrow)
        assert Fraction(1, 100) < fields["memory"] / fields["bandwidth"] < 1
        assert fields["interconnect"] < fields["bandwidth"] if "interconnect" in fields else True


def test_every_machine_names_its_source() -> None:
    for path in sorted(machines.STANDARD.glob("*.surg")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("machine "):
                above = lines[:number][::-1]
                comment = above[: above.index("")]
                assert any("sheet" in each or "paper" in each for each in comment), line


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["machines"]) == 0
    table = capsys.readouterr().out
    row = next(line.split() for line in table.splitlines() if "nvidia.h200_sxm" in line)
    assert row[1:7] == ["139.8", "4800", "989", "1979", "-", "900"]
    assert main(["machines", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["machines"]
    assert next(r for r in rows if r["name"] == "nvidia.b200")["compute_fp4"] == 9e15


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        ("", Parallel(8, 1, 1, 1)),
        ("tensor_parallel = 8", Parallel(8, 1, 1, 1)),
        ("tensor_parallel = 2", Parallel(2, 1, 4, 1)),
        ("data_parallel = 4", Parallel(2, 1, 4, 1)),
        ("pipeline_parallel = 2", Parallel(4, 2, 1, 1)),
        ("tensor_parallel = 2, pipeline_parallel = 2, data_parallel = 2", Parallel(2, 2, 2, 1)),
        ("tensor_parallel = 1, expert_parallel = 8", Parallel(1, 1, 8, 8)),
        ("tensor_parallel = 8, expert_parallel = 4", Parallel(8, 1, 1, 4)),
    ],
)
def test_what_is_not_said_follows(fields: str, shared: Parallel) -> None:
    found = parallel.of(node(fields))
    assert found == shared
    assert found.gpus == 8


def test_experts_are_shared_by_whom_they_are_not_dealt_out_to() -> None:
    assert Parallel(8).sharing_expert == 8
    assert Parallel(8, expert=8).sharing_expert == 1
    assert Parallel(4, data=2, expert=4).sharing_expert == 2
    assert Parallel(4, data=2).sharing_expert == 4


def test_fields_that_contradict_each_other() -> None:
    assert fault("tensor_parallel = 3") == (
        "3 GPUs cannot share a layer evenly on a machine that has 8",
        "8 is no multiple of 3",
    )
    assert fault("tensor_parallel = 4, pipeline_parallel = 4") == (
        "groups of 16 GPUs cannot share a machine that has 8 evenly",
        "8 is no multiple of 16",
    )
    assert fault("tensor_parallel = 2, data_parallel = 2") == (
        "the parallelism of a machine takes 4 of its 8 GPUs",
        "leaves 4 without work",
    )
    assert fault("expert_parallel = 3") == (
        "3 GPUs cannot share experts evenly on a machine that has 8",
        "8 is no multiple of 3",
    )


@pytest.mark.parametrize("tensor", [1, 2, 4, 8, 16, 64])
@pytest.mark.parametrize("kv_heads", [1, 2, 4, 8])
def test_kv_heads_divide_or_are_copied(tensor: int, kv_heads: int) -> None:
    assert trouble(Attention(64, kv_heads, 64), Parallel(tensor)) == ""


@pytest.mark.parametrize(
    ("tensor", "heads", "kv_heads", "said"),
    [
        (3, 64, 8, "3 GPUs cannot share 64 query heads evenly"),
        (6, 24, 8, "6 GPUs cannot share or copy 8 KV heads evenly"),
        (4, 24, 6, "4 GPUs cannot share or copy 6 KV heads evenly"),
    ],
)
def test_heads_that_do_not(tensor: int, heads: int, kv_heads: int, said: str) -> None:
    assert trouble(Attention(heads, kv_heads, 64), Parallel(tensor)) == said
