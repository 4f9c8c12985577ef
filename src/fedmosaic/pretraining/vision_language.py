"""Making a vision-language model of a package's language model: ``python -m fedmosaic.pretraining.vision_language``.

Projector and a LoRA on all linears of the decoder learn from the public mixture; tower and language model stay frozen.
The outcome is a delta (:mod:`fedmosaic.models.delta`). What step n does depends on n and the seed alone, and a
checkpoint holds all else: a run that was killed goes on to the same bits.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40.build import PublicBank, open_public
from fedmosaic.data.mosaic40.public import public_samples
from fedmosaic.io import write_atomically
from fedmosaic.models.delta import Delta, weights_sha256
from fedmosaic.models.features import Features
from fedmosaic.models.fingerprint import architecture_name
from fedmosaic.models.from_package import DELTA, PackagedVision, stored_weights
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision_weights import load_tower
from fedmosaic.pretraining.named_pictures import name_pictures
from fedmosaic.pretraining.phases import PhaseSchedule
from fedmosaic.pretraining.skill_accuracy import skill_accuracy
from fedmosaic.pretraining.vision_language_step import Recipe, Training
from fedmosaic.registry import PACKAGED
from fedmosaic.seeding import derive

_CHUNK = 8  # batches drawn together
Log = Callable[[str], None]


def train(
    training: Training, bank: PublicBank, checkpoint: Path, *, every: float, until: int | None = None, log: Log
) -> None:
    """Train to the recipe's last step, from the checkpoint if there is one.

    Args:
        training: is changed in place.
        bank: the public pictures.
        checkpoint: the file; written every few minutes and at the end.
        every: seconds between checkpoints.
        until: stop at this step instead.
        log: receives a line about every half minute.
    """
    recipe = training.recipe
    if checkpoint.exists():
        training.load(checkpoint)
        log(f"goes on from step {training.step}")
    elif recipe.naming:
        loss = name_pictures(
            training.model, bank.pool.pictures, steps=recipe.naming, noise=recipe.noise, seed=recipe.seed
        )
        log(f"the projector names pictures with a loss of {loss:.3f}")
        training.save(checkpoint)
    saved = told = time.monotonic()
    losses: list[float] = []
    batches: list[list[Dialogue]] = []
    drawn = -1
    while training.step < (recipe.steps if until is None else until):
        if training.step // _CHUNK != drawn:
            drawn = training.step // _CHUNK
            batches = draw(bank, recipe, drawn)
        losses.append(training.learn(batches[training.step % _CHUNK]))
        now = time.monotonic()
        if now - told > 30:
            log(f"step {training.step}  {(now - told) / len(losses):.2f} s/step  loss {sum(losses) / len(losses):.3f}")
            told, losses = now, []
        if now - saved > every:
            training.save(checkpoint)
            saved = now
    training.save(checkpoint)


def draw(bank: PublicBank, recipe: Recipe, chunk: int) -> list[list[Dialogue]]:
    """Return the batches of the steps ``8 chunk`` to ``8 chunk + 7``, each of dialogues of about equal length.

    Args:
        bank: the public pictures.
        recipe: the settings.
        chunk: counts from 0.
    """
    source = PhaseSchedule(bank, size=recipe.batch, start=0.0, seed=derive(recipe.seed, "vision-language", chunk))
    progress = min(1.0, chunk * _CHUNK / recipe.steps)
    pool = sorted((dialogue for _ in range(_CHUNK) for dialogue in source.next(progress)), key=_length)
    batches = [pool[start : start + recipe.batch] for start in range(0, len(pool), recipe.batch)]
    random.Random(derive(recipe.seed, "vision-language-order", chunk)).shuffle(batches)
    return batches


def write_delta(
    training: Training, kind: type[PackagedVision], bank: PublicBank, *, questions: int, home: Path, out: Path
) -> None:
    """Write ``delta.safetensors``, and ``pretraining.json`` with the accuracy of the model that it makes.

    Args:
        training: at any step.
        kind: which model.
        bank: the public pictures.
        questions: how many public questions are asked.
        home: the cache folder.
        out: the folder.
    """
    training.delta(kind.package.sha256).save(out / DELTA)
    rounded = Delta.load(kind.name, out / DELTA)  # with the projector in fp16
    module, tokenizer = kind.changed(rounded, home)
    replace(rounded, result=weights_sha256(stored_weights(module, torch.float16))).save(out / DELTA)
    made = with_tower(kind.name, module, tokenizer, bank, home=home)
    for part in (module.model.multi_modal_projector, made.decoder, module.lm_head):
        part.to(getattr(torch, training.recipe.dtype))
    samples = public_samples(bank, questions, seed=derive(training.recipe.seed, "pretrain-test"))
    record = {
        "model": kind.name,
        "recipe": asdict(training.recipe),
        "steps": training.step,
        "bank": bank.checksum,
        "skills": skill_accuracy(made, samples),
    }
    write_atomically(out / "pretraining.json", json.dumps(record, indent=2) + "\n")


def untrained(kind: type[PackagedVision], bank: PublicBank, *, home: Path) -> TinyModel:
    """Return a package's language model with tower and a projector to be drawn.

    Args:
        kind: which model.
        bank: the public pictures.
        home: the cache folder.
    """
    return with_tower(kind.name, *kind.unchanged(home), bank, home=home)


def with_tower(
    name: str,
    module: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    bank: PublicBank,
    *,
    home: Path,
) -> TinyModel:
    """Return a model that looks at the public pictures.

    Args:
        name: how the user calls it.
        module: without tower.
        tokenizer: its tokenizer.
        bank: the public pictures.
        home: the cache folder.
    """
    architecture, tower = architecture_name(module), load_tower()
    module.model.vision_tower = tower
    model = TinyModel(name, module, tokenizer, Features(bank.images, tower, home=home))
    model.architecture = architecture
    return model


def _length(dialogue: Dialogue) -> int:
    """Return about how many characters stand for a dialogue; an image mark's tokens count as much as itself."""
    return sum(len(text) + len(answer) for text, answer in dialogue.turns)


def main() -> None:
    """Read the command line, train, and write the delta."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [name for name in PACKAGED if issubclass(PACKAGED.load(name), PackagedVision)]
    parser.add_argument("--model", choices=kinds, required=True)
    for name in ("steps", "batch", "rank", "naming", "warm_up", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Recipe, name))
    for name in ("lr", "projector_lr"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(Recipe, name))
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default=Recipe.dtype, help="of the frozen weights")
    parser.add_argument("--every", type=float, default=180.0, help="seconds between checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--questions", type=int, default=1000, help="public questions that are asked at the end")
    parser.add_argument(
        "--home", type=Path, required=True, help="cache folder: public images, features, package weights"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint and delta; run again, it goes on")
    arguments = vars(parser.parse_args())
    model, every, threads, questions, home, out = (
        arguments.pop(name) for name in ("model", "every", "threads", "questions", "home", "out")
    )
    torch.set_num_threads(threads)
    log = partial(print, file=sys.stderr, flush=True)
    bank = open_public(home)
    training = Training(untrained(PACKAGED.load(model), bank, home=home), Recipe(**arguments))
    training.model.features.prepare(bank.images.keys())
    train(training, bank, out / "checkpoint.safetensors", every=every, log=log)
    write_delta(training, PACKAGED.load(model), bank, questions=questions, home=home, out=out)


if __name__ == "__main__":
    main()
