"""Pretraining a small text model: ``python -m fedmosaic.pretraining.text --family text-llama --out DIR``.

The model learns from the public mixture of the ``words`` benchmark: sentences about all its words, and questions about
their public part. One thread, counted in CPU seconds. It is saved every 15 seconds: started again with the same
``--out``, it goes on from there. The outcome is a checkpoint, which a scenario names by its folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerFast

from fedmosaic.data.images import GivenImages
from fedmosaic.data.words.public import corpus, mixture, public_questions
from fedmosaic.evaluation.score import choice_scores
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.files import WEIGHTS
from fedmosaic.pretraining.text_families import TEXT_FAMILIES, TextFamily, build_text_module
from fedmosaic.pretraining.tokenizers import fit_tokenizer
from fedmosaic.pretraining.train import Recipe, optimisers
from fedmosaic.seeding import derive

BATCH = 48
_SAVED = "state.safetensors"  # weights and optimisers of an unfinished training; its metadata: how far it is
_EVERY = 15.0  # CPU seconds between two of them


def pretrain(name: str, recipe: Recipe, *, out: Path, log: Callable[[str], None]) -> None:
    """Fit the tokenizer, train, evaluate, and write the checkpoint and ``pretraining.json``.

    Args:
        name: of :data:`~fedmosaic.pretraining.text_families.TEXT_FAMILIES`.
        recipe: the settings; ``noise``, ``naming`` and ``hints`` are of models that see.
        out: receives the checkpoint; holds the state of an unfinished training.
        log: receives progress lines.
    """
    out.mkdir(parents=True, exist_ok=True)
    family = TEXT_FAMILIES[name]
    tokenizer = _tokenizer(family, out)
    module = build_text_module(family, len(tokenizer), seed=recipe.seed)
    model = CheckpointModel(name, module, tokenizer, None, GivenImages(()))
    log(f"{name}: {len(tokenizer)} tokens, {model.parameter_count} weights")
    steps = train(model, recipe, out / _SAVED, log=log)
    asked = public_questions(600, random.Random(derive(recipe.seed, "pretrain-test")))
    scores = choice_scores(model, asked)
    accuracy = sum(scores) / len(scores)
    record = {"family": name, "recipe": asdict(recipe), "steps": steps, "public questions": accuracy}
    log(f"{accuracy:.1%} of public questions")
    weights = {name: value.to(torch.float16) for name, value in module.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, out / WEIGHTS, metadata={"format": "pt"})
    module.config.architectures = [type(module).__name__]
    module.config.save_pretrained(out)
    (out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / _SAVED).unlink(missing_ok=True)


def train(model: CheckpointModel, recipe: Recipe, saved: Path, *, log: Callable[[str], None]) -> int:
    """Train all weights for the recipe's CPU time, from where a saved state left off, and return the number of steps.

    Args:
        model: left frozen and in eval mode again.
        recipe: the settings.
        saved: file of the state.
        log: receives a line whenever the state is saved.
    """
    module = model.module.requires_grad_(True)
    opts = optimisers(module, recipe)
    step, before = _restore(module, opts, saved) if saved.is_file() else (0, 0.0)
    start, average, last = time.process_time(), 0.0, before
    while (spent := before + time.process_time() - start) < recipe.seconds:
        source = random.Random(derive(recipe.seed, "pretrain-text", step))
        loss = model.loss(model.collate(list(itertools.islice(mixture(source), recipe.batch))))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
        for optimiser in opts:
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate(step, spent / recipe.seconds)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        average = 0.98 * average + 0.02 * float(loss.detach())
        if spent > last + _EVERY:
            log(f"{spent:5.0f} s  step {step}  loss {average / (1 - 0.98**step):.3f}")
            _save(module, opts, saved, step, spent)
            last = spent
    module.requires_grad_(False)
    return step


def _save(module: nn.Module, opts: list[torch.optim.Optimizer], path: Path, step: int, spent: float) -> None:
    tensors = {f"model.{name}": value for name, value in module.state_dict().items() if name != "lm_head.weight"}
    for number, optimiser in enumerate(opts):
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"{number}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    draft = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, draft,
              metadata={"step": str(step), "spent": str(spent)})  # fmt: skip
    draft.replace(path)


def _restore(module: nn.Module, opts: list[torch.optim.Optimizer], path: Path) -> tuple[int, float]:
    """Read what :func:`_save` wrote and return the number of steps and the CPU seconds that they took."""
    tensors = load_file(path)
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    module.load_state_dict(weights, strict=False)  # the head is tied to the embeddings
    for number, optimiser in enumerate(opts):
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name.startswith(f"{number}."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    return int(about["step"]), float(about["spent"])


def _tokenizer(family: TextFamily, out: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of an earlier start, or a new one; digits are tokens of their own."""
    if (out / "tokenizer.json").is_file():
        kept: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(out)
        return kept
    tokenizer = fit_tokenizer(family.tokenizer, list(corpus()), vocabulary=family.vocabulary, whole_words=())
    tokenizer.save_pretrained(out)
    return tokenizer


def main() -> None:
    """Read the command line and pretrain one family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=sorted(TEXT_FAMILIES), required=True)
    parser.add_argument("--seconds", type=float, default=600.0, help="CPU time of the training")
    parser.add_argument("--lr", type=float, default=Recipe.lr, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=BATCH, help="samples in a batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and its unfinished state")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(seconds=arguments.seconds, lr=arguments.lr, batch=arguments.batch, seed=arguments.seed)
    pretrain(
        arguments.family,
        recipe,
        out=arguments.out,
        log=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    main()
