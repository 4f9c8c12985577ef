"""``fedmosaic export``: a client's final model for use without fedmosaic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmosaic.cli.console import PlainConsole


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    client: Annotated[int, typer.Option(help="Id of the client whose model it is.")],
    form: Annotated[
        str,
        typer.Option("--as", help="lora (a PEFT LoRA), merged (a whole checkpoint) or base (what a LoRA goes on)."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for it.")],
    device: Annotated[
        str | None,
        typer.Option(help=r"auto, cpu, cuda, cuda:1 or mps.  \[default: the run's; auto where that is not there]"),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="The base model's name on the Hugging Face hub, for the model card: owner/model.")
    ] = None,
    after_exchange: Annotated[
        bool,
        typer.Option("--after-exchange", help="As the last exchange has left the client, not as local training has."),
    ] = False,
) -> None:
    """Write a client's final model as a PEFT LoRA folder or as an ordinary transformers checkpoint."""
    from fedmosaic.api.exporting import export as write_export

    write_export(run, client, form, out, after_exchange=after_exchange, base_model=base_model, device=device)
    PlainConsole().say(f"wrote {out}; {out / 'README.md'} is its model card, and says how to load it")
