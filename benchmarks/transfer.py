"""The transfer test: do P, Q of Co-LoRA, or of the tower adapter, trained in one model say the same in another?

    python benchmarks/transfer.py --out runs/transfer                                   # all of it: CPU-hours
    python benchmarks/transfer.py --out runs/quick --skills trend@lines,bongard@twemoji --pairs tiny-llama:tiny-qwen2
    python benchmarks/transfer.py --out runs/tower --site tower --modes 16,64,256       # the tower adapter, by rank

For each recipe of bases, skill, seed and source model: P and Q (Co-LoRA only, no other adapter) are trained on the
skill in the source and put into each target model, (i) as they are and (ii) as the start of a few steps on few samples.
(ii) is compared with the same steps from zero in the same bases. Parts can be run one after another into the same
folder: rows that are in ``rows.jsonl`` already are not computed again, and the table covers all rows.

A recipe is a mode with other values, e.g. ``joint``, ``none``, ``joint:ridge=0.1:orthonormal=0:answer=8`` (fields of
the mode, and of the positions' weights); of the tower adapter it is the rank, as all models here have one tower. Every
row holds accuracies on ``held-out`` samples (train and validation samples that the training does not see; for choosing
recipes) and on ``test`` samples; ``--score`` says which are shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from _transfer_plot import write_plot
from _transfer_table import Row, of_kind, show, summarise

from fedmosaic.adapters import Adapter, Slot, TowerSite, folded_in, is_shared
from fedmosaic.alignment import MODES, Alignment, Mode, PositionWeights, align, is_alignment
from fedmosaic.config import TrainingSettings, home
from fedmosaic.data.mosaic40.build import open_mosaic40, open_public
from fedmosaic.data.mosaic40.public import public_samples
from fedmosaic.data.sample import Sample, Task
from fedmosaic.evaluation import score_samples
from fedmosaic.federation.tower_basis import tower_site
from fedmosaic.models import BaseModel, load_base_model
from fedmosaic.seeding import derive, rng
from fedmosaic.training.optimiser import SlotOptimiser

MODELS = ("tiny-llama", "tiny-qwen2", "tiny-gemma")
SKILLS = (
    "trend@lines", "count-compare@twemoji", "bar-count@bars", "lowest-bar@bars", "odd-one-out@openmoji",
    "bongard@twemoji", "common-concept@line", "digit-compare@ink", "peak@lines", "same-category@openmoji",
    "which-differs@line", "edit-type@photo",
)  # fmt: skip
SEEN = 160  # of a task's train samples; the others are held out
TUNING = 100  # samples of the few steps

Scores = dict[str, float]
"""Accuracies by kind of samples: held-out, test."""


def parse_recipe(text: str) -> tuple[Mode, PositionWeights]:
    """Return the mode and the positions' weights of a recipe."""
    name, *changes = text.split(":")
    mode, positions = MODES[name], PositionWeights()
    for change in changes:
        key, _, value = change.partition("=")
        if key in {each.name for each in dataclasses.fields(PositionWeights)}:
            positions = dataclasses.replace(positions, **{key: float(value)})
        else:
            kind = type(getattr(mode, key))
            mode = dataclasses.replace(mode, **{key: kind(float(value))})  # type: ignore[type-var]
    return mode, positions


class Bench:
    """The models with Co-LoRA in them, the tasks, and the bases of each recipe."""

    group = "colora"
    """What is trained, of :meth:`Adapter.named_groups`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.benchmark = open_mosaic40(home())
        self.models: dict[str, BaseModel] = {}
        self.adapters: dict[str, Adapter] = {}
        self._alignments: dict[str, Alignment] = {}
        self._known: dict[tuple[object, ...], Scores] = {}
        for name in arguments.models:
            self.models[name] = load_base_model(name, images=self.benchmark.images, home=home())
            self.adapters[name] = _colora_only(self.models[name], rank=arguments.rank, blocks=arguments.blocks)
        self.tasks = {skill: self.benchmark.task(skill) for skill in arguments.skills}
        for task in self.tasks.values():
            self.models[arguments.models[0]].prepare((*task.train, *task.validation, *task.test))

    def use(self, recipe: str) -> None:
        """Put the recipe's bases into all models."""
        if recipe not in self._alignments:
            folder = self.arguments.out / "alignments" / recipe.replace(":", "-")
            if not is_alignment(folder):
                self._align(recipe).save(folder)
            self._alignments[recipe] = Alignment.load(folder)
        for name, model in self.models.items():
            self.adapters[name].load_basis(self._alignments[recipe].basis(model.architecture))

    def _align(self, recipe: str) -> Alignment:
        bank = open_public(home())
        samples = public_samples(bank, self.arguments.samples, seed=0)
        models = {name: load_base_model(name, images=bank.images, home=home()) for name in self.models}
        for model in models.values():
            model.prepare(samples)
        mode, positions = parse_recipe(recipe)
        shape = {"rank": self.arguments.rank, "blocks": self.arguments.blocks}
        return align(models, samples, mode=mode, positions=positions, **shape)

    def rows(self, recipe: str, skill: str, seed: int, source: str, targets: Sequence[str]) -> Iterator[Row]:
        """Train in the source and try in the targets."""
        task = self.tasks[skill]
        row = {"recipe": recipe, "skill": skill, "seed": seed, "source": source}
        row["source_before"] = self.base_score(source, task)
        self.reset(source)
        self.train(source, task.train[:SEEN], self.arguments.steps, seed)
        learned = {key: self.arguments.scale * value for key, value in self.shared(source).items()}
        row["source_after"] = self.score(source, task)
        few = self.few(task, seed)
        for target in targets:
            before, from_zero = self.base_score(target, task), self.from_zero(recipe, target, task, seed)
            self.load(target, learned)
            as_is = self.score(target, task)
            self.train(target, few, self.arguments.few_steps, seed)
            yield row | {
                "target": target,
                "target_before": before,
                "as_is": as_is,
                "from_transferred": self.score(target, task),
                "from_zero": from_zero,
            }

    def few(self, task: Task, seed: int) -> list[Sample]:
        """Return the few samples that a target sees."""
        order = rng(derive(seed, task.name), "few").permutation(SEEN)[:TUNING]
        return [task.train[int(index)] for index in order]

    def base_score(self, name: str, task: Task) -> Scores:
        """Return the accuracy without P and Q; measured once."""
        key = (name, task.name)
        if key not in self._known:
            self.reset(name)
            self._known[key] = self.score(name, task)
        return self._known[key]

    def from_zero(self, recipe: str, name: str, task: Task, seed: int) -> Scores:
        """Return the accuracy after the few steps from P = Q = 0; the same whatever the source, so measured once."""
        key = (recipe, name, task.name, seed)
        if key not in self._known:
            self.reset(name)
            self.train(name, self.few(task, seed), self.arguments.few_steps, seed)
            self._known[key] = self.score(name, task)
        return self._known[key]

    def reset(self, name: str) -> None:
        """Set P and Q to zero."""
        self.load(name, {key: torch.zeros_like(value) for key, value in self.shared(name).items()})

    def shared(self, name: str) -> dict[str, torch.Tensor]:
        """Return P and Q."""
        return {key: value for key, value in self.adapters[name].slot_tensors("local").items() if is_shared(key)}

    def load(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        """Set P and Q."""
        adapter = self.adapters[name]
        adapter.load_slot("local", {**adapter.slot_tensors("local"), **tensors})

    def train(self, name: str, samples: Sequence[Sample], steps: int, seed: int) -> None:
        """Take steps on P and Q as a client does."""
        rate = self.arguments.lr
        model, settings = self.models[name], TrainingSettings(colora_learning_rate=rate, tower_learning_rate=rate)
        groups = {self.group: self.adapters[name].named_groups()[self.group]}
        self.adapters[name].train_only("local")
        optimiser = SlotOptimiser(groups, settings)
        draw = rng(seed, "batches")
        for _ in range(steps):
            chosen = draw.choice(len(samples), self.arguments.batch, replace=False)
            optimiser.step(model.loss(model.collate([samples[int(index)] for index in chosen])))

    def score(self, name: str, task: Task) -> Scores:
        """Return the accuracies."""
        kinds = {"held-out": (*task.train[SEEN:], *task.validation), "test": task.test}
        model = self.models[name]
        with folded_in(self.adapters[name], {"local": 1.0}):
            return {kind: score_samples(model, samples, batch_size=60).mean for kind, samples in kinds.items()}


class TowerBench(Bench):
    """The same with a tower adapter instead; a recipe is its rank."""

    group = "tower"

    def use(self, recipe: str) -> None:
        """Put tower adapters of this rank into all models."""
        for name, model in self.models.items():
            self.adapters[name].detach()
            model.adapter = None
            site = tower_site(model, int(recipe), home=home())
            self.adapters[name] = _colora_only(model, rank=self.arguments.rank, blocks=0, tower=site)


def _colora_only(model: BaseModel, *, rank: int, blocks: int, tower: TowerSite | None = None) -> Adapter:
    """Attach an adapter and take its conventional linears out again."""
    adapter = Adapter.attach(
        model.module,
        model.decoder,
        slots=(Slot("local", communicated=True),),
        rank=rank,
        alpha=2.0 * rank,
        blocks=blocks,
        seed=0,
        architecture=model.architecture,
        tower=tower,
    )
    for adapted in adapter.linears():
        if adapted.linear.kind == "lora":
            adapted.put(adapted.linear.base)
    return adapter


def check_same(bench: Bench, arguments: argparse.Namespace) -> None:
    """Refuse a folder whose rows come from other models or settings: they could not be compared."""
    names = ("rank", "blocks", "samples", "steps", "few_steps", "batch", "lr", "scale")
    now = {name: getattr(arguments, name) for name in names}
    now |= {"site": arguments.site} if arguments.site != "decoder" else {}
    now["architectures"] = sorted(model.architecture for model in bench.models.values())
    path = arguments.out / "settings.json"
    if path.is_file() and json.loads(path.read_text()) != now:
        sys.exit(f"{path} was written with other settings or base models than {now}; give another --out")
    path.write_text(json.dumps(now, indent=1) + "\n")


def _words(text: str) -> list[str]:
    return text.split(",")


def options(description: str | None) -> argparse.ArgumentParser:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--site", choices=("decoder", "tower"), default="decoder", help="Co-LoRA, or the tower adapter")
    parser.add_argument("--modes", type=_words, default=["joint", "none"], help="recipes; of --site tower: ranks")
    parser.add_argument("--skills", type=_words, default=list(SKILLS))
    parser.add_argument("--pairs", type=_words, help="source:target,...  (default: all ordered pairs)")
    parser.add_argument("--seeds", type=_words, default=["0", "1", "2"])
    parser.add_argument("--models", type=_words, default=list(MODELS))
    parser.add_argument("--score", choices=("held-out", "test"), default="test")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--samples", type=int, default=5000, help="public samples for the alignment")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--few-steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on P and Q when they are put into the target")
    return parser


def main() -> None:
    """Run what is not there yet, write ``rows.jsonl``, ``transfer.json`` and ``transfer.svg``, and print the tables."""
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = arguments.out / "rows.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    known = {tuple(row[key] for key in ("recipe", "skill", "seed", "source", "target")) for row in rows}
    pairs = arguments.pairs or [":".join(pair) for pair in itertools.permutations(arguments.models, 2)]
    bench, begin = {"decoder": Bench, "tower": TowerBench}[arguments.site](arguments), time.process_time()
    check_same(bench, arguments)
    for seed, skill in itertools.product(map(int, arguments.seeds), arguments.skills):  # recipes side by side
        for recipe, source in itertools.product(arguments.modes, arguments.models):
            targets = [target for s, target in (pair.split(":") for pair in pairs) if s == source]
            todo = [target for target in targets if (recipe, skill, seed, source, target) not in known]
            if todo:
                bench.use(recipe)
            for row in bench.rows(recipe, skill, seed, source, todo) if todo else ():
                rows.append(row)
                with record.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        print(f"seed {seed}, {skill}: {time.process_time() - begin:.0f} CPU seconds so far", file=sys.stderr)
    settings = {key: str(value) for key, value in vars(arguments).items() if key != "out"}
    shown = of_kind(rows, arguments.score)
    result = {"settings": settings, "summary": summarise(shown), "rows": shown}
    (arguments.out / "transfer.json").write_text(json.dumps(result, indent=1) + "\n")
    write_plot(result["summary"], arguments.out / "transfer.svg")
    print("\n".join(show(shown)))


if __name__ == "__main__":
    main()
