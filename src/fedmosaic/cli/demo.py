"""``fedmosaic demo``: the method that leads the field at the compute of local training, with the latter beside it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from fedmosaic.cli.run import run

METHOD = "fedmosaic-proxy"
SETTINGS = (
    "adapter.tower_rank=256",
    "method.own=shared",
    "method.proxy=tiny-llama-small",
    "method.own_steps=0.25",
    "method.proxy_steps=2.35",
    "method.share=0.5",
    "method.weight=2",
    "method.restart=0.56",
    "method.common=0.25",
    "evaluation.final_samples_per_task=80",
)
"""As in docs/field.md: a small proxy model that all clients share learns most, and stays each client's own in part.

The end is scored on two thirds of the test questions, which saves a minute."""


def demo(
    out: Annotated[
        Path | None, typer.Option(help=r"Run folder; new.  \[default: runs/demo- and the time]", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help=r"Seed of everything random.  \[default: 0]")] = None,
    device: Annotated[
        str | None, typer.Option(help=r"Where models compute: auto, cpu, cuda, cuda:1, mps.  \[default: auto]")
    ] = None,
) -> None:
    """Train ten clients of three model families in some minutes, and show what federation brings them."""
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / f"demo-{now}" if out is None else out
    run("demo", method=METHOD, overrides=list(SETTINGS), out=folder, seed=seed, device=device)
