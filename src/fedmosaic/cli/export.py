"""``fedmosaic export``: a client's final model for use without fedmosaic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmosaic.cli.console import PlainConsole
from fedmosaic.errors import SettingsError
from fedmosaic.io import folder_written_atomically
from fedmosaic.nearest import hint

if TYPE_CHECKING:
    from fedmosaic.config import RunSettings
    from fedmosaic.federation.final_model import FinalModel


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    client: Annotated[int, typer.Option(help="Id of the client whose model it is.")],
    form: Annotated[
        str,
        typer.Option("--as", help="lora (a PEFT LoRA), merged (a whole checkpoint) or base (what a LoRA goes on)."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for it.")],
) -> None:
    """Write a client's final model as a PEFT LoRA folder or as an ordinary transformers checkpoint."""
    if form not in _FORMS:
        raise SettingsError(f"--as {form}: {hint(form, _FORMS)}expected one of {', '.join(_FORMS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"--out {out} already holds something; choose another folder")

    from fedmosaic.cli.finished import finished_run
    from fedmosaic.data.images import GivenImages
    from fedmosaic.federation.final_model import final_model

    runtime, settings = finished_run(run, images=GivenImages(()), change=_as_stored)
    model = final_model(runtime, client)
    try:
        with folder_written_atomically(out) as folder:
            usage = _FORMS[form](model, folder)
            origin = f"{settings.method} on {settings.scenario.name}, {settings.rounds} rounds, seed {settings.seed}"
            title = f"# Client {client} of a fedmosaic run ({form})"
            (folder / "README.md").write_text(f"{title}\n\n{origin}.\n\n{usage}\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--out {out} cannot be written: {error.strerror}") from None
    PlainConsole().say(f"wrote {out}; {out / 'README.md'} says how to load it")


def _as_stored(settings: RunSettings) -> RunSettings:
    """Whatever it trained in, the base goes out as it is stored, and from machines without the run's device, too."""
    from fedmosaic.config import varied
    from fedmosaic.models.device import check_device

    try:
        check_device(settings.device)
        device = settings.device
    except SettingsError:
        device = "cpu"
    return varied(settings, ["model.dtype=auto", f"device={device}"])


def _lora(model: FinalModel, folder: Path) -> str:
    from fedmosaic.adapters.export import write_lora, write_origin

    task = "CAUSAL_LM" if model.base.auto_class == "AutoModelForCausalLM" else None
    write_lora(model.adapter, folder, base_model=model.spec.model, task_type=task)
    write_origin(model.adapter, folder, base_model=model.spec.model)
    built_in = (
        " Its folder is what `fedmosaic export RUN --client K --as base --out BASE` writes."
        if model.base.own_code
        else ""
    )
    lines = [*_load(model, "BASE"), 'model = PeftModel.from_pretrained(base, "THIS FOLDER")']
    return (
        f"A PEFT LoRA for the base model `{model.spec.model}`.{built_in}\n\n"
        + _code("from peft import PeftModel", *lines)
        + "\n\nIt computes what the client's model computes; fedmosaic is not needed. A client of another run starts "
        + 'from it with `start = "THIS FOLDER"`; `fedmosaic.json` and `slots` are for that.'
    )


def _merged(model: FinalModel, folder: Path) -> str:
    from fedmosaic.adapters.merge import merged

    changes, config = merged(model.adapter, model.base.module)
    model.adapter.detach()
    model.base.save(folder, changes=changes, config=config)
    return f"`{model.spec.model}` with the client's adapter added to its weights.\n\n" + _code(
        *_load(model, "THIS FOLDER")
    )


def _base(model: FinalModel, folder: Path) -> str:
    model.adapter.detach()
    model.base.save(folder)
    return f"The base model `{model.spec.model}`, unchanged: LoRA exports of its clients go on it.\n\n" + _code(
        *_load(model, "THIS FOLDER")
    )


def _load(model: FinalModel, folder: str) -> list[str]:
    name = model.base.auto_class
    more = ", trust_remote_code=True" if model.base.own_code else ""
    return [f"from transformers import {name}", "", f'base = {name}.from_pretrained("{folder}"{more})']


def _code(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


_FORMS: dict[str, Callable[[FinalModel, Path], str]] = {"lora": _lora, "merged": _merged, "base": _base}
