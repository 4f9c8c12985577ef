"""Pretraining an embedded model: ``python -m fedmosaic.pretraining.train --family tiny-llama --out DIR``.

Projector and decoder learn from an endless public mixture of captions and questions; the vision tower stays frozen and
its features are cached. One thread, counted in CPU seconds, so that two families can be trained side by side on a small
machine.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmosaic.data.mosaic40 import public
from fedmosaic.data.mosaic40.build import PublicBank, open_public
from fedmosaic.data.mosaic40.tasks import SEEN, UNSEEN
from fedmosaic.models.base import Batch
from fedmosaic.models.families import Family, build_module
from fedmosaic.models.features import Features
from fedmosaic.models.load import load_tiny, save_without_tower
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision_weights import load_tower
from fedmosaic.pretraining.feature_distillation import FeatureDistillation
from fedmosaic.pretraining.image_token_loss import ImageTokenLoss
from fedmosaic.pretraining.muon import Muon
from fedmosaic.pretraining.phases import PhaseSchedule
from fedmosaic.pretraining.skill_accuracy import skill_accuracy
from fedmosaic.pretraining.tokenizers import fit_tokenizer
from fedmosaic.registry import FAMILIES
from fedmosaic.seeding import derive


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a pretraining.

    Attributes:
        seconds: CPU time.
        batch: dialogues in a batch.
        lr: peak learning rate of both optimisers.
        warm_up: steps of linear rise.
        decay: share of the time, at the end, of linear decay to 2 %.
        start: share of the curriculum that is left out at the start, when training goes on from a model.
        clip: largest gradient norm.
        noise: standard deviation of the noise on the tower's features (whose own is 0.9), against memorised pictures.
        naming: weight of each of the two losses of :class:`~fedmosaic.pretraining.image_token_loss.ImageTokenLoss`.
        hints: weight of the feature distillation from a teacher, if there is one.
        seed: of weights and data.
    """

    seconds: float
    batch: int = 40
    lr: float = 4e-3
    warm_up: int = 100
    decay: float = 0.5
    start: float = 0.0
    clip: float = 1.0
    noise: float = 0.5
    naming: float = 0.3
    hints: float = 3.0
    seed: int = 0

    def learning_rate(self, step: int, progress: float) -> float:
        """Return the learning rate at a step.

        Args:
            step: counts from 0.
            progress: share of the training time that has passed, 0 to 1.
        """
        return self.lr * min(1.0, (step + 1) / self.warm_up) * min(1.0, max(0.02, (1 - progress) / self.decay))


def optimisers(module: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the layers and AdamW for embeddings, norms and biases.

    Args:
        module: the model; only its parameters that require a gradient are trained.
        recipe: gives the learning rate.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    inner = [p for name, p in named if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    chosen = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in chosen]
    return [Muon(inner, lr=recipe.lr), torch.optim.AdamW(rest, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0)]


def dialogue_loss(model: TinyModel, batch: Batch) -> Tensor:
    """Return the cross-entropy of all answers of a batch of dialogues (a scalar; nats).

    A dialogue with n answer tokens has weight sqrt(n), so that long captions do not dominate short answers.

    Args:
        model: the model in training.
        batch: of dialogues, with their answers.
    """
    logits, targets, rows, _ = model.answer_logits(batch)
    weights = torch.bincount(rows, minlength=len(batch.input_ids)).float().rsqrt()[rows]
    return (F.cross_entropy(logits.float(), targets, reduction="none") * weights).sum() / weights.sum()


def train(
    model: TinyModel,
    bank: PublicBank,
    recipe: Recipe,
    *,
    teacher: TinyModel | None = None,
    log: Callable[[str], None],
) -> int:
    """Train projector and decoder for the recipe's CPU time and return the number of steps.

    Args:
        model: left frozen and in eval mode again.
        bank: the public pictures.
        recipe: the settings.
        teacher: a model of another family for feature distillation; None for none.
        log: receives a line about every 30 seconds.
    """
    trained = [model.module.model.multi_modal_projector, model.decoder]
    for part in trained:
        part.requires_grad_(True)
    opts = optimisers(model.module, recipe)
    torch.manual_seed(derive(recipe.seed, "pretrain-hints"))
    hints = FeatureDistillation(teacher, model) if teacher else None
    if hints:
        opts.append(torch.optim.AdamW(hints.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0))
    curriculum = PhaseSchedule(bank, size=recipe.batch, start=recipe.start, seed=recipe.seed)
    naming = ImageTokenLoss(bank.pool.pictures, model)
    torch.manual_seed(derive(recipe.seed, "pretrain-noise"))
    start, step, average, next_line = time.process_time(), 0, 0.0, 30.0
    while (spent := time.process_time() - start) < recipe.seconds:
        progress = spent / recipe.seconds
        chosen = curriculum.next(progress)
        batch = model.collate_dialogues(chosen)
        features = batch.vision["features"]
        batch.vision["features"] = features + recipe.noise * torch.randn_like(features)
        keys = [key for dialogue in chosen for key in dialogue.images]
        with naming.recording(model), hints.recording() if hints else nullcontext():
            loss = dialogue_loss(model, batch)
            if hints:
                loss = loss + recipe.hints * hints.loss(chosen, batch)
            if keys:
                loss = loss + recipe.naming * (
                    naming.loss(model, keys, batch) + naming.first_layer_loss(model, keys, batch)
                )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.module.parameters(), recipe.clip)
        for optimiser in opts:
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate(step, progress)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        average = 0.98 * average + 0.02 * float(loss.detach())
        if spent > next_line:
            log(f"{spent:5.0f} s  step {step}  {step / spent:.2f} steps/s  loss {average / (1 - 0.98**step):.3f}")
            next_line += 30.0
    model.module.requires_grad_(False)
    return step


def answer_words(bank: PublicBank) -> set[str]:
    """Return every word that answers a question with options, in the public mixture or in a task.

    The tasks' questions are asked about public pictures: no client's sample is read.

    Args:
        bank: the public pictures.
    """
    samples = public.public_samples(bank, 4000, seed=0)
    for name in (*SEEN, *UNSEEN):
        source = random.Random(derive(0, "answer-words", name))
        samples += [question.sample(name) for question in public.task_questions(bank, name, 60, source)]
    texts = {text for sample in samples for text in (*(sample.options or ()), sample.answer)}
    return {word for text in texts for word in text.split()}


def new_model(family: type[Family], bank: PublicBank, *, seed: int, home: Path) -> TinyModel:
    """Return an untrained model with a tokenizer fitted to the public texts.

    Args:
        family: which model.
        bank: the public pictures.
        seed: of the weights.
        home: the cache folder.
    """
    tokenizer = fit_tokenizer(
        family.tokenizer, list(public.corpus(bank)), vocabulary=family.vocabulary, whole_words=answer_words(bank)
    )
    module = build_module(family, len(tokenizer), seed=seed)
    module.model.vision_tower = load_tower()
    return TinyModel(family.name, module, tokenizer, Features(bank.images, module.model.vision_tower, home=home))


def pretrain(
    family: type[Family],
    recipe: Recipe,
    *,
    home: Path,
    out: Path,
    init: Path | None,
    teacher: Path | None,
    log: Callable[[str], None],
) -> None:
    """Fit the tokenizer, train, evaluate, and write the assets and ``pretraining.json``.

    Args:
        family: which model.
        recipe: the settings.
        home: the cache folder: the public bank and its features.
        out: receives the assets.
        init: assets to go on from, instead of an untrained model.
        teacher: assets of the teacher for feature distillation; None for none.
        log: receives progress lines.
    """
    bank = open_public(home)
    if init is None:
        model = new_model(family, bank, seed=recipe.seed, home=home)
    else:
        model = load_tiny(family.name, init, images=bank.images, home=home)
    model.features.prepare(bank.images.keys())
    weights = model.parameter_count - _size(model.module.model.vision_tower)
    log(f"{family.name}: {len(model.tokenizer)} tokens, {weights} weights")
    guide = None if teacher is None else load_tiny(teacher.name, teacher, images=bank.images, home=home)
    if guide:
        guide.features.prepare(bank.images.keys())
    begin = time.monotonic()
    steps = train(model, bank, recipe, teacher=guide, log=log)
    skills = skill_accuracy(model, public.public_samples(bank, 6000, seed=derive(recipe.seed, "pretrain-test")))
    record: dict[str, Any] = {
        "family": family.name,
        "recipe": asdict(recipe),
        "steps": steps,
        "wall_seconds": round(time.monotonic() - begin),
        "bank": bank.checksum,
        "skills": skills,
    }
    if teacher is not None:
        record["teacher"] = teacher.name
    if init is not None:
        record["before"] = json.loads((init / "pretraining.json").read_text(encoding="utf-8"))
        record["before"].pop("skills", None)
    save_without_tower(model.module, model.tokenizer, out)
    (out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for skill, result in skills.items():
        log(f"{skill:16} {result}")


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def main() -> None:
    """Read the command line and pretrain one family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=sorted(FAMILIES), required=True)
    parser.add_argument("--seconds", type=float, help="CPU time of the training (default: the family's)")
    parser.add_argument("--lr", type=float, default=Recipe.lr, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=Recipe.batch, help="dialogues in a batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="folder of an earlier outcome to go on from")
    parser.add_argument("--teacher", type=Path, help="folder of the model whose hidden states shall be approached")
    parser.add_argument("--start", type=float, default=0.0, help="share of the curriculum to leave out at the start")
    parser.add_argument(
        "--home", type=Path, required=True, help="cache folder for the public images and their features"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for config, weights, tokenizer and record")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    family = FAMILIES.load(arguments.family)
    recipe = Recipe(
        seconds=arguments.seconds or family.seconds,
        lr=arguments.lr,
        batch=arguments.batch,
        seed=arguments.seed,
        start=arguments.start,
    )
    pretrain(
        family,
        recipe,
        home=arguments.home,
        out=arguments.out,
        init=arguments.init,
        teacher=arguments.teacher,
        log=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    main()
