"""Points of machines that nothing was fitted to, as the package with them tells of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from surgery import study
from surgery.costing import silicon

HEADER = (
    "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,"
    "gemm_quant_mode,moe_quant_mode,batch_size,tp_size,pp_size,attention_dp_size,moe_tp_size,"
    "moe_ep_size,silicon_ttft_ms,silicon_tpot_ms"
)
ROWS = tuple(
    f"{start},fp8,{mode},1024,512,{quant},{quant},8,2,1,1,1,1,90.5,12.5"
    for start, mode, quant in (
        ("a,silicon_concurrency=16; x,vllm,0.1,Qwen/Qwen3-32B,h100_sxm", "agg", ""),
        ("b,somewhere,vllm,0.1,Qwen/Qwen3-32B,h100_sxm", "agg", "fp8"),
        ("c,somewhere,vllm,0.1,Qwen/Qwen3-32B,h100_sxm", "disagg", "fp8"),
        ("d,somewhere,vllm,0.1,somebody/else,h100_sxm", "agg", "fp8"),
        ("e,somewhere,vllm,0.1,Qwen/Qwen3-32B,b200_sxm", "agg", "fp8"),
    )
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a handful of points, found before the real one."""
    about = tmp_path / "aiconfigurator_core-0.12.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: aiconfigurator-core\nVersion: 0\n"
    )
    table = tmp_path / "aiconfigurator_core" / "systems" / "silicon_sample.csv"
    table.parent.mkdir(parents=True)
    table.write_text("\n".join((HEADER, *ROWS)) + "\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.mark.usefixtures("package")
def test_points_are_read_as_those_of_the_file() -> None:
    """Served whole, of known models, on the system: clients where they are said."""
    said, unsaid = silicon.read("h100_sxm")
    assert (said.load.batch, unsaid.load.batch) == (16, 8)
    assert (said.machine, said.shared.tensor, said.tpot) == ("nvidia.h100_sxm", 2, 0.0125)
    # Nothing said of quantisation is 16 bits, twice the bytes of FP8.
    assert said.works[0].weights == 2 * unsaid.works[0].weights


@pytest.mark.usefixtures("package")
def test_the_table_judges_them() -> None:
    """Every point is in the table, and predictions are of the right size."""
    lines = list(study.unseen("h100_sxm"))
    assert lines[1].split()[:4] == ["Qwen3-32B", "vllm", "nvidia.h100_sxm", "2"]
    rows = study.rows(silicon.read("h100_sxm"))
    ideal = max(study.factors.factors("ideal").seconds(row.token) for row in rows)
    assert 0 < ideal < rows[0].point.tpot


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from anywhere else."""
    monkeypatch.setattr(silicon, "PACKAGE", "no-such-package")
    with pytest.raises(silicon.NotInstalled, match="no-such-package"):
        silicon.read("h100_sxm")
