"""Points of a machine that the time model was not fitted to, from an installed package.

In: the name of a system, as `h100_sxm`. Out: `Point`s from `silicon_sample.csv` of NVIDIA's package
`aiconfigurator-core` (Apache-2.0; the extra `aiconfigurator`), from which `data/serving-points.csv`
was taken too. The package is not imported, only its file is read. Refuses (`NotInstalled`) where
it is not there. Models whose geometry `points.py` does not know are left out, and so is serving
that reads prompts on GPUs of their own.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from surgery.costing import points
from surgery.costing.points import Point

PACKAGE = "aiconfigurator-core"
_TABLE = "aiconfigurator_core/systems/silicon_sample.csv"
_CLIENTS = re.compile(r"silicon_concurrency=(\d+)")
_COLUMNS: Mapping[str, str] = {
    "model": "model_path",
    "gpu": "system",
    "engine": "backend",
    "engine_version": "backend_version",
    "precision": "precision",
    "input_tokens": "isl",
    "output_tokens": "osl",
    "batch_size": "batch_size",
    "tp": "tp_size",
    "pp": "pp_size",
    "attention_dp": "attention_dp_size",
    "moe_tp": "moe_tp_size",
    "moe_ep": "moe_ep_size",
    "ttft_ms": "silicon_ttft_ms",
    "tpot_ms": "silicon_tpot_ms",
}


class NotInstalled(Exception):
    """The package with the points is not installed."""


def read(system: str) -> tuple[Point, ...]:
    """All points of a system, each measurement once."""
    return points.made(row for row in _rows() if row["gpu"] == system)


def _rows() -> Iterator[Mapping[str, str]]:
    try:
        path = Path(str(distribution(PACKAGE).locate_file(_TABLE)))
    except PackageNotFoundError as missing:
        raise NotInstalled(PACKAGE) from missing
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["mode"] != "agg" or row["model_path"] not in points.SHAPES:
                continue
            clients = _CLIENTS.search(row["silicon_data_source"])
            yield {
                **{ours: row[theirs] for ours, theirs in _COLUMNS.items()},
                "concurrency": clients[1] if clients else row["batch_size"],
                # Nothing said is nothing quantised.
                "gemm_quant": row["gemm_quant_mode"] or "bf16",
                "moe_quant": row["moe_quant_mode"] or "bf16",
            }
