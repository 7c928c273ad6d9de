"""`surgery verify PLAN CHECKPOINT`: is this checkpoint the plan applied to the parent?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from surgery import console, sizes
from surgery.commands import options
from surgery.diagnostics import Sink
from surgery.ir import Cost, Model
from surgery.units import format_bytes, format_tokens


@click.command()
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN")
@click.argument(
    "checkpoint", type=click.Path(path_type=Path), required=False, metavar="[CHECKPOINT]"
)
@click.option(
    "--parent",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The parent's checkpoint.",
)
@options.findings
def command(plan: Path, checkpoint: Path | None, parent: Path, findings: options.Format) -> None:
    """Prove that a checkpoint is a plan applied to its parent, tensor by tensor.

    Without a CHECKPOINT, only weigh the plan: what its child would cost, exactly. That takes the
    parent's config.json and no weights.
    """
    from surgery import plan as plans
    from surgery.passes import verify

    sink = Sink()
    progress = console.Progress()
    read = options.stopping(lambda: plans.read(plan), findings)
    model = options.stopping(lambda: _parent(parent, read.parent[0]), findings)
    if checkpoint is None:
        costs = options.stopping(lambda: verify.weigh(read, str(plan), model), findings)
        click.echo(_sizes(f"{plan} applied to {parent}", costs, model.context))
        return
    found = options.stopping(
        lambda: verify.run(read, str(plan), model, checkpoint, sink, progress), findings
    )
    options.tell(sink, findings)
    if found is None:
        sys.exit(1)
    click.echo(
        f"{checkpoint} is {plan} applied to {parent}: {found.tensors} tensors, "
        f"{format_bytes(found.nbytes)}, {found.changed} of them cut, all as planned"
    )


def _sizes(head: str, costs: tuple[Cost, ...], context: int) -> str:
    rows = (
        ("params", f"{sizes.params(costs):,}"),
        ("weights", f"{sizes.weights(costs):,} bytes"),
        (f"kv@{format_tokens(context)}", f"{sizes.kv(costs, context):,} bytes/seq"),
    )
    return "\n".join((f"{head}:", *(f"  {name:<10} {value}" for name, value in rows)))


def _parent(directory: Path, source: str) -> Model:
    from surgery.passes.resolve import read_model
    from surgery.sources.fetched import Fetched

    return read_model(Fetched(directory, source), console.cache_folder())
