"""Pretraining an embedded model: ``python -m fedmosaic.models.pretrain --family tiny-llama --out DIR``.

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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmosaic.data.mosaic40 import public
from fedmosaic.data.mosaic40.build import PublicBank, open_public
from fedmosaic.data.mosaic40.tasks import SEEN, UNSEEN, parse
from fedmosaic.models.families import FAMILIES, Family, build_module
from fedmosaic.models.features import FeatureStore
from fedmosaic.models.load import save_without_tower
from fedmosaic.models.muon import Muon
from fedmosaic.models.skills import skill_accuracy
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision_weights import load_tower
from fedmosaic.models.vocabulary import fit_tokenizer
from fedmosaic.seeding import derive


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is pretrained.

    Attributes:
        seconds: CPU time.
        batch: dialogues in a batch.
        lr: peak learning rate of both optimisers.
        warm_up: steps of linear rise.
        decay: share of the time, at the end, of linear decay to 2 %.
        early: share of the time, at the start, in which several-image dialogues are rare; afterwards single images are.
        clip: largest gradient norm.
        seed: of weights and data.
    """

    seconds: float
    batch: int = 32
    lr: float = 2e-3
    warm_up: int = 100
    decay: float = 0.6
    early: float = 0.2
    clip: float = 1.0
    seed: int = 0

    def learning_rate(self, step: int, progress: float) -> float:
        """Return the learning rate at a step, at a share of the time between 0 and 1."""
        return self.lr * min(1.0, (step + 1) / self.warm_up) * min(1.0, max(0.02, (1 - progress) / self.decay))


class Curriculum:
    """Endless batches of dialogues of about equal length; looking comes first, comparing images later."""

    def __init__(self, dialogues: Iterator[public.Dialogue], recipe: Recipe) -> None:
        self._dialogues = dialogues
        self._recipe = recipe
        self._random = random.Random(derive(recipe.seed, "curriculum"))
        self._ready: list[list[public.Dialogue]] = []

    def next(self, progress: float) -> list[public.Dialogue]:
        """Return a batch for a share of the time between 0 and 1."""
        if not self._ready:
            size = self._recipe.batch
            pool = list(islice(filter(lambda dialogue: self._keep(dialogue, progress), self._dialogues), 8 * size))
            pool.sort(key=_length)
            self._ready = [pool[start : start + size] for start in range(0, len(pool), size)]
            self._random.shuffle(self._ready)
        return self._ready.pop()

    def _keep(self, dialogue: public.Dialogue, progress: float) -> bool:
        several = len(dialogue.images) > 1
        if progress < self._recipe.early:
            return not several or self._random.random() < 0.15
        return several or self._random.random() < 0.3


def _length(dialogue: public.Dialogue) -> tuple[int, int]:
    return len(dialogue.images), sum(len(text) + len(answer) for text, answer in dialogue.turns)


def optimisers(module: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the layers and AdamW for embeddings, norms and biases."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    inner = [p for name, p in named if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    chosen = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in chosen]
    return [Muon(inner, lr=recipe.lr), torch.optim.AdamW(rest, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0)]


def dialogue_loss(model: TinyModel, dialogues: list[public.Dialogue]) -> Tensor:
    """Return the cross-entropy of all answers.

    A dialogue with n answer tokens weighs sqrt(n), so that long captions do not drown short answers.
    """
    logits, targets, rows = model.answer_logits(model.collate_dialogues(dialogues))
    weights = torch.bincount(rows, minlength=len(dialogues)).float().rsqrt()[rows]
    return (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


def train(
    model: TinyModel,
    dialogues: Iterator[public.Dialogue],
    recipe: Recipe,
    *,
    log: Callable[[str], None],
) -> int:
    """Train projector and decoder for the recipe's CPU time and return the number of steps.

    Args:
        model: left frozen and in eval mode again.
        dialogues: the endless mixture.
        recipe: how.
        log: receives a line about every 30 seconds.
    """
    trained = [model.module.model.multi_modal_projector, model.decoder]
    for part in trained:
        part.requires_grad_(True)
    opts = optimisers(model.module, recipe)
    curriculum = Curriculum(dialogues, recipe)
    start, step, average, next_line = time.process_time(), 0, 0.0, 30.0
    while (spent := time.process_time() - start) < recipe.seconds:
        progress = spent / recipe.seconds
        loss = dialogue_loss(model, curriculum.next(progress))
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
    """
    samples = public.public_samples(bank, 4000, seed=0)
    for name in (*SEEN, *UNSEEN):
        skill, domain = parse(name)
        known = bank.pool.domains(skill.kind)
        source = random.Random(derive(0, "answer-words", name))
        for index in range(60):
            question = skill.make(bank.pool, domain if domain in known else known[0], source)
            samples.append(question.sample(f"{name}-{index}"))
    texts = {text for sample in samples for text in (*(sample.options or ()), sample.answer)}
    return {word for text in texts for word in text.split()}


def pretrain(family: Family, recipe: Recipe, *, home: Path, out: Path, log: Callable[[str], None]) -> None:
    """Fit the tokenizer, train, evaluate, and write the assets and ``pretraining.json``.

    Args:
        family: which model.
        recipe: how.
        home: the cache folder: the public bank and its features.
        out: receives the assets.
        log: receives progress lines.
    """
    bank = open_public(home)
    tokenizer = fit_tokenizer(
        family.tokenizer, list(public.corpus(bank)), vocabulary=family.vocabulary, whole_words=answer_words(bank)
    )
    module = build_module(family, len(tokenizer), seed=recipe.seed)
    module.model.vision_tower = load_tower()
    features = FeatureStore(bank.images, module.model.vision_tower, home=home)
    features.prepare(bank.images.keys())
    model = TinyModel(family.name, module, tokenizer, features)
    log(f"{family.name}: {len(tokenizer)} tokens, {model.parameter_count - _size(module.model.vision_tower)} weights")
    begin = time.monotonic()
    steps = train(model, public.public_mixture(bank, derive(recipe.seed, "pretrain")), recipe, log=log)
    skills = skill_accuracy(model, public.public_samples(bank, 6000, seed=derive(recipe.seed, "pretrain-test")))
    record = {
        "family": family.name,
        "recipe": asdict(recipe),
        "steps": steps,
        "wall_seconds": round(time.monotonic() - begin),
        "bank": bank.checksum,
        "skills": skills,
    }
    save_without_tower(module, tokenizer, out)
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
    parser.add_argument(
        "--home", type=Path, required=True, help="cache folder for the public images and their features"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for config, weights, tokenizer and record")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    family = FAMILIES[arguments.family]
    recipe = Recipe(
        seconds=arguments.seconds or family.seconds, lr=arguments.lr, batch=arguments.batch, seed=arguments.seed
    )
    pretrain(
        family,
        recipe,
        home=arguments.home,
        out=arguments.out,
        log=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    main()
