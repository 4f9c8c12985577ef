"""``fedmosaic align``: the frozen Co-LoRA bases of a scenario's architectures, made to mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedmosaic.cli import completing
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import working
from fedmosaic.config import home, load_scenario, resolve
from fedmosaic.errors import SettingsError

if TYPE_CHECKING:
    from fedmosaic.alignment import Alignment


def align(
    scenario: Annotated[
        str,
        typer.Argument(
            help="Built-in name, a .toml file, or a published .json file.", autocompletion=completing.scenarios
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for bases.safetensors and alignment.json (or cka.html).")],
    mode: Annotated[str, typer.Option(help="none, a, published, pivot or joint.")] = "joint",
    samples: Annotated[int, typer.Option(min=10, help="Public samples; every fifth measures the result.")] = 5000,
    rank: Annotated[int | None, typer.Option(min=1, help=r"Rank r.  \[default: the scenario's]")] = None,
    blocks: Annotated[int | None, typer.Option(min=1, help=r"Number of blocks.  \[default: the scenario's]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of samples and of random bases.")] = 0,
    device: Annotated[str, typer.Option(help="Where models compute: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        str | None, typer.Option(help=r"Of the models' weights, as model.dtype.  \[default: the scenario's]")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store in half precision.")] = False,
    cka: Annotated[
        bool, typer.Option("--cka", help="Make no bases, but cka.html: which layers of the models are alike.")
    ] = False,
) -> None:
    """Align the Co-LoRA bases of a scenario's architectures on public samples, and show how well they agree."""
    known = load_scenario(scenario)

    from fedmosaic.alignment import find_mode
    from fedmosaic.federation.alignment import make_alignment
    from fedmosaic.models.device import check_single, described, taken

    console = PlainConsole()
    find_mode(mode)
    settings = resolve(known, overrides=[f"model.dtype={dtype}"] if dtype else [])
    check_single(device)
    device = str(taken(device))
    console.say(f"device: {described(device)}")
    if len(known.models) < 2:
        raise SettingsError(
            f"all clients of {known.name} run {known.models[0]}; alignment is between architectures: it needs at least "
            "two"
        )
    if cka:
        _show_layers(known.models, samples, seed, out, console, device, settings.model.dtype)
        return
    with working(console, f"aligning {', '.join(known.models)} on {samples} public samples"):
        alignment = make_alignment(
            known.models,
            home=home(),
            rank=rank or settings.adapter.rank,
            blocks=blocks or settings.adapter.blocks,
            mode=mode,
            samples=samples,
            seed=seed,
            device=device,
            dtype=settings.model.dtype,
        )
        alignment.save(out, half=half)
    console.print(_table(alignment))
    console.say(f"bases: {out}")


def _show_layers(
    names: Sequence[str], samples: int, seed: int, out: Path, console: PlainConsole, device: str, dtype: str
) -> None:
    """Compare the models' layers and write the page."""
    from fedmosaic.alignment import compare_layers
    from fedmosaic.federation.alignment import models_and_public_samples
    from fedmosaic.report.layers import LayerPair, write_layers

    with working(console, f"comparing layers on {samples} public samples"):
        models, chosen = models_and_public_samples(names, samples, home=home(), seed=seed, device=device, dtype=dtype)
        found = compare_layers(models, chosen)
    pairs = [LayerPair(one.one, one.other, one.cka.tolist(), one.depth_distance()) for one in found]
    for pair in pairs:
        console.say(f"{pair.one} and {pair.other}: most similar layers are {pair.apart:.2f} of the depth apart")
    page = write_layers(pairs, samples=samples, path=out / "cka.html")
    console.say(f"layers: {page}")


def _table(alignment: Alignment) -> Table:
    """How well each module's latents agree, at a glance."""
    table = Table("module", title=f"{alignment.mode}: mean correlation between architectures, held-out samples")
    table.add_column("latent inputs", justify="right")
    table.add_column("effects of latent outputs", justify="right")
    for name, one in alignment.correlations.items():
        table.add_row(name, f"{one.inputs:.2f}", f"{one.effects:.2f}")
    mean = alignment.mean()
    table.add_section()
    table.add_row("mean", f"{mean.inputs:.2f}", f"{mean.effects:.2f}")
    return table
