"""A client's final model for use without fedmosaic: a PEFT LoRA folder, or an ordinary transformers checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from fedmosaic.adapters.export import write_lora, write_origin
from fedmosaic.adapters.merge import merged
from fedmosaic.api.card import Card, base_name, scores_of, write_card
from fedmosaic.api.objects import Objects
from fedmosaic.api.opening import open_finished
from fedmosaic.api.product import AnswersWithProxy, write_product
from fedmosaic.config import RunSettings, varied
from fedmosaic.data.images import GivenImages
from fedmosaic.errors import SettingsError
from fedmosaic.federation import ClientRuntime, RunFolder
from fedmosaic.federation.final_model import FinalModel, final_model
from fedmosaic.io import folder_written_atomically
from fedmosaic.models import terms_of
from fedmosaic.nearest import hint


def export(
    run: Path,
    client: int,
    form: str,
    out: Path,
    *,
    after_exchange: bool = False,
    base_model: str | None = None,
    device: str | None = None,
    objects: Objects | None = None,
) -> None:
    """Write a client's final model; ``README.md`` beside it is its model card, and says how to load it.

    Args:
        run: folder of a finished run.
        client: id of the client whose model it is.
        form: ``lora`` (a PEFT LoRA), ``merged`` (a whole checkpoint) or ``base`` (what a LoRA goes on).
        out: new folder for it.
        after_exchange: as the last exchange has left the client, not as local training has.
        base_model: the base model's name on the Hugging Face hub, where the folder's own name does not tell it.
        device: where models compute; default: where they did, or what ``auto`` takes if that is not there.
        objects: what the run was given as objects.

    Raises:
        SettingsError: there is no such form or client, the run is not done, or the folder holds something or cannot be
            written.
        FedMosaicError: as :func:`~fedmosaic.federation.final_model.final_model` does.
    """
    if form not in _FORMS:
        raise SettingsError(f"--as {form}: {hint(form, _FORMS)}expected one of {', '.join(_FORMS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"--out {out} already holds something; choose another folder")
    runtime = open_finished(
        run, objects, images=GivenImages(()), after_exchange=after_exchange, device=device, change=_as_stored
    )
    settings, spec, method = (
        runtime.assets.settings,
        runtime.assets.settings.scenario.client(client),
        runtime.assets.method,
    )
    models, bases = [spec.model], [base_name(spec.model, base_model)]
    write = _writer(runtime, client, form, bases[0].text)
    record = RunFolder(run)
    results = record.results()
    try:
        with folder_written_atomically(out) as folder:
            usage = write(folder)
            if isinstance(method, AnswersWithProxy) and method.proxy is not None:
                models.append(method.proxy.model)
                bases.append(base_name(method.proxy.model))
            card = Card(
                spec,
                form,
                bases,
                runtime.assets.pool.model(spec.model).architecture,
                usage,
                method.title,
                f"{settings.rounds} rounds" + (", after the last exchange" if after_exchange else ""),
                settings,
                [] if form == "base" else scores_of(record, spec, after_exchange=after_exchange),
                results.privacy if results else None,
                _with_terms(models, folder),
            )
            write_card(folder / "README.md", card)
    except OSError as error:
        raise SettingsError(f"--out {out} cannot be written: {error.strerror}") from None


def _writer(runtime: ClientRuntime, client: int, form: str, base: str) -> Callable[[Path], str]:
    """Return what writes a client's model, or both of its models; whatever may be wrong with it shows here."""
    if not isinstance(runtime.assets.method, AnswersWithProxy):
        return partial(_FORMS[form], final_model(runtime, client), base=base)
    if form != "lora":
        raise SettingsError(
            f"--as {form}: clients of {runtime.assets.method.title} answer with two models, which are no one "
            "checkpoint; --as lora writes the LoRAs of both"
        )
    return partial(write_product, runtime, client, base=base)


def _with_terms(models: Iterable[str], folder: Path) -> list[str]:
    """Lay the terms of base models beside what was made of them, and return the files' names."""
    paths = dict.fromkeys(path for model in models for path in terms_of(model))
    for path in paths:
        with (folder / path.name).open("ab") as file:  # two makers may both have a NOTICE
            file.write(path.read_bytes())
    return list(dict.fromkeys(path.name for path in paths))


def _as_stored(settings: RunSettings) -> RunSettings:
    """Whatever it trained in, the base goes out as it is stored."""
    return varied(settings, ["model.dtype=auto", "model.quantisation=none"])


def _lora(model: FinalModel, folder: Path, *, base: str) -> str:
    task = "CAUSAL_LM" if model.base.auto_class == "AutoModelForCausalLM" else None
    write_lora(model.adapter, folder, base_model=base, task_type=task)
    write_origin(model.adapter, folder, base_model=base)
    built_in = (
        " Its folder is what `fedmosaic export RUN --client K --as base --out BASE` writes."
        if model.base.own_code
        else ""
    )
    lines = [*_load(model, "BASE"), 'model = PeftModel.from_pretrained(base, "THIS FOLDER")']
    return (
        f"A PEFT LoRA for the base model `{base}`.{built_in}\n\n"
        + _code("from peft import PeftModel", *lines)
        + "\n\nIt computes what the client's model computes; fedmosaic is not needed. A client of another run starts "
        + 'from it with `start = "THIS FOLDER"`; `fedmosaic.json` and `slots` are for that.'
    )


def _merged(model: FinalModel, folder: Path, *, base: str) -> str:
    changes, config = merged(model.adapter, model.base.module)
    model.adapter.detach()
    model.base.save(folder, changes=changes, config=config)
    return f"`{base}` with the client's adapter added to its weights.\n\n" + _code(*_load(model, "THIS FOLDER"))


def _base(model: FinalModel, folder: Path, *, base: str) -> str:
    model.adapter.detach()
    model.base.save(folder)
    return f"The base model `{base}`, unchanged: LoRA exports of its clients go on it.\n\n" + _code(
        *_load(model, "THIS FOLDER")
    )


def _load(model: FinalModel, folder: str) -> list[str]:
    name = model.base.auto_class
    more = ", trust_remote_code=True" if model.base.own_code else ""
    return [f"from transformers import {name}", "", f'base = {name}.from_pretrained("{folder}"{more})']


def _code(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


_FORMS: dict[str, Callable[..., str]] = {"lora": _lora, "merged": _merged, "base": _base}
