"""What a checkpoint must do to be of use: one function for each column of the table in docs/models.md.

Each is given a folder that ``save_pretrained`` made, and compares with transformers or PEFT alone, with one sample at a
time, or with what a run of one piece gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from peft import PeftModel
from PIL import Image
from torch import Tensor

from fedmosaic.adapters import Adapter, Slot, TowerSite
from fedmosaic.adapters.export import write_lora
from fedmosaic.adapters.merge import merged
from fedmosaic.alignment import align
from fedmosaic.config import TrainingSettings
from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.likelihoods import log_likelihoods
from fedmosaic.models.read import load_checkpoint
from fedmosaic.training import ClientState
from fedmosaic.training.optimiser import SlotOptimiser

SLOTS = (Slot("local", communicated=True), Slot("other", communicated=False))
KINDS = ("bird", "fish", "tool", "boat")
WHAT = "what kind of thing is this ? options : bird fish tool boat answer :"
WHICH = "which image ? answer :"
PICTURES = (
    Sample("one", ("64x64",), f"<image> {WHAT}", "bird", KINDS),
    Sample(
        "two", ("90x40", "52x80"), "<image> first <image> second which image ? answer :", "second", ("first", "second")
    ),
    Sample("long", ("40x60",), f"<image> {WHAT}", "a fish tool", ("a fish tool", "a fish", "boat")),
)
TEXTS = (
    Sample("short", (), "what is red ? answer :", "a fish tool"),
    Sample("options", (), WHAT, "boat", KINDS),
    Sample("long", (), f"{WHAT} say which {WHAT}", "a fish tool", ("a fish tool", "a fish", "boat")),
)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


class Noise:
    """Pictures named by their size, in pixels; ``64x64+3`` is another one of the same size."""

    collection = "noise"

    def digest(self, key: str) -> str:
        return key

    def load(self, key: str) -> Image.Image:
        size, _, seed = key.partition("+")
        width, height = map(int, size.split("x"))
        draw = np.random.default_rng(int(seed or 0))
        coarse = draw.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


@dataclasses.dataclass(frozen=True)
class Case:
    """A checkpoint, another of its kind with other weights, and an empty folder."""

    folder: Path
    second: Callable[[], Path]
    scratch: Path

    def model(self) -> CheckpointModel:
        return load_checkpoint(self.folder.name, self.folder, images=Noise())  # type: ignore[arg-type]

    def samples(self, model: CheckpointModel) -> list[Sample]:
        texts = [] if model._needs_pictures else list(TEXTS[:1])
        return [*PICTURES, *texts] if model.reads_images else list(TEXTS)


def adapted(model: CheckpointModel, *, fill: float = 0.2, tower: bool = True) -> Adapter:
    """Put an adapter into a model, at its decoder and (where there is one) at its projector's first linear."""
    site = None
    if tower and (interface := interface_of(model)):
        draw = torch.Generator().manual_seed(5)
        rows = torch.linalg.qr(torch.randn(interface.features, 4, generator=draw, dtype=torch.float64)).Q.t()
        site = TowerSite(interface, rows.float().contiguous())
    adapter = Adapter.attach(
        model.module, model.decoder, slots=SLOTS, rank=4, alpha=4, blocks=1, seed=0, architecture="it", tower=site
    )
    model.adapter = adapter
    torch.manual_seed(1)
    with torch.no_grad():
        for group in adapter.named_groups().values():
            for parameter in group.values():
                parameter.add_(fill * torch.randn_like(parameter))
    return adapter


def interface_of(model: CheckpointModel) -> Any:
    try:
        return model.interface
    except ModelError:
        return None


def inputs_of(batch: Any) -> dict[str, Tensor]:
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, **batch.vision}


# ---- the columns


@torch.no_grad()
def loads(case: Case) -> None:
    """Its logits are transformers' own; nothing is trained; another copy has the same name."""
    model = case.model()
    batch = model.collate(case.samples(model), with_answers=False)
    theirs = model.module(**inputs_of(batch), use_cache=False).logits
    torch.testing.assert_close(model.head(model.hidden_states(batch)), theirs)
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert case.model().architecture == model.architecture


@torch.no_grad()
def batches(case: Case) -> None:
    """A batch of unlike lengths and pictures is what its samples are one by one, and no answer sees itself."""
    model = case.model()
    samples = case.samples(model)
    together = model.answer_logits(model.collate(samples))
    for row, sample in enumerate(samples):
        alone = model.answer_logits(model.collate([sample]))
        torch.testing.assert_close(together.logits[together.rows == row], alone.logits, **CLOSE)
        asked = model.collate([sample], with_answers=False)
        before = model.head(model.hidden_states(asked)[0, int(asked.last)])
        torch.testing.assert_close(alone.logits[0], before, **CLOSE)


@torch.no_grad()
def sees(case: Case) -> None:
    """Another picture, or another order of pictures, gives other logits."""
    model = case.model()
    if not model.reads_images:
        pytest.skip("a text model")
    one, two = PICTURES[:2]
    for sample, images in ((one, ("64x64+1",)), (two, ("90x40", "52x80+1")), (two, two.images[::-1])):
        other = dataclasses.replace(sample, images=images)
        first, second = (model.answer_logits(model.collate([each])).logits[0] for each in (sample, other))
        assert (first - second).abs().max() > 1e-3


@torch.no_grad()
def answers(case: Case) -> None:
    """Likelihoods of options and generated answers are those that ``generate`` gives, one sample at a time."""
    model = case.model()
    samples = case.samples(model)
    chosen = [sample for sample in samples if sample.options]
    for sample, found in zip(chosen, log_likelihoods(model, chosen), strict=True):
        options = [model.answer_tokens(option) for option in sample.options or ()]
        decided = all(len(ids) == 2 for ids in options) and len({ids[0] for ids in options}) == len(options)
        wanted = [ids[:1] if decided else ids for ids in options]  # a first token that names its option stands for it
        torch.testing.assert_close(found, torch.stack([_likelihood(model, sample, ids) for ids in wanted]), **CLOSE)
    for sample, said in zip(samples, model.answer(samples, max_tokens=4), strict=True):
        tokens = _generated(model, sample, eos_token_id=model.end_tokens.tolist(), max_new_tokens=4).sequences
        expected = model.tokenizer.decode(tokens[0, _prompt(model, sample).shape[1] :], skip_special_tokens=True)
        assert said == expected.strip()


def _prompt(model: CheckpointModel, sample: Sample) -> Tensor:
    return model.collate([sample], with_answers=False).input_ids


def _generated(model: CheckpointModel, sample: Sample, **settings: Any) -> Any:
    inputs = inputs_of(model.collate([sample], with_answers=False))
    model.module.generation_config = tf.GenerationConfig(pad_token_id=model.tokenizer.pad_token_id)
    return model.module.generate(**inputs, do_sample=False, return_dict_in_generate=True, **settings)


def _likelihood(model: CheckpointModel, sample: Sample, answer: list[int]) -> Tensor:
    """Return what ``generate`` gives the tokens of an answer that it is made to say, (nats)."""
    start = _prompt(model, sample).shape[1]

    def force(ids: Tensor, scores: Tensor) -> Tensor:
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor(answer[ids.shape[1] - start]), 0.0)

    settings = {"max_new_tokens": len(answer), "logits_processor": [force], "output_logits": True}
    logits = _generated(model, sample, **settings).logits
    return torch.stack([step.log_softmax(-1)[0, token] for step, token in zip(logits, answer, strict=True)]).sum()


def places(case: Case) -> None:
    """Adapters are at every layer of the decoder, none in the tower; they change nothing until they are trained."""
    model = case.model()
    batch = model.collate(case.samples(model))
    before = model.answer_logits(batch).logits
    adapter = adapted(model, fill=0.0)
    torch.testing.assert_close(model.answer_logits(batch).logits, before, rtol=1e-5, atol=1e-5)
    assert {target.layer for target in adapter.placement.targets} == set(range(adapter.placement.layers))
    eyes = ("vision", "visual", "tower", "audio", "image")
    assert not any(part in target.path for target in adapter.placement.targets for part in eyes)


def tower(case: Case) -> None:
    """A tower adapter at the projector's entry learns; a text model has none."""
    model = case.model()
    if not model.reads_images:
        assert model.interface is None
        pytest.skip("a text model")
    assert model.interface is not None  # raises where no linear is there to carry it
    adapter = adapted(model)
    batch = model.collate(case.samples(model))
    model.loss(batch).backward()
    trained = [p for name, p in adapter.named_groups()["tower"].items() if name.startswith("local/")]
    gradients = [p.grad for p in trained]
    assert gradients
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def learns(case: Case) -> None:
    """Steps lower the loss, and change nothing but the adapters."""
    model = case.model()
    adapter = adapted(model, fill=0.0)
    own = {id(p) for group in adapter.named_groups().values() for p in group.values()}
    frozen = {name: p.clone() for name, p in model.module.named_parameters() if id(p) not in own}
    losses = _train(model, adapter, case.samples(model), steps=4)
    assert losses[-1] < losses[0]
    after = dict(model.module.named_parameters())
    assert all(torch.equal(before, after[name]) for name, before in frozen.items())


def resumes(case: Case) -> None:
    """Two steps, a file and two more steps in a fresh model are four steps."""
    model = case.model()
    samples = case.samples(model)
    whole = _train(model, adapted(model, fill=0.0), samples, steps=4)
    first = case.model()
    adapter = adapted(first, fill=0.0)
    half = _train(first, adapter, samples, steps=2, save=case.scratch / "state.safetensors")
    again = case.model()
    back = adapted(again, fill=0.0)
    rest = _train(again, back, samples, steps=2, load=case.scratch / "state.safetensors")
    assert [*half, *rest] == pytest.approx(whole, rel=1e-5)


def _train(
    model: CheckpointModel,
    adapter: Adapter,
    samples: list[Sample],
    *,
    steps: int,
    save: Path | None = None,
    load: Path | None = None,
) -> list[float]:
    from safetensors.torch import load_file, save_file

    adapter.train_only("local")
    settings = TrainingSettings(learning_rate=1e-3, colora_learning_rate=1e-3, tower_learning_rate=1e-3)
    optimiser = SlotOptimiser(adapter.named_groups(), settings)
    if load is not None:
        state = ClientState.from_tensors(load_file(load))
        state.load_into(adapter)
        optimiser.load_moments(state.moments)
    batch, losses = model.collate(samples), []
    for _ in range(steps):
        loss = model.loss(batch)
        losses.append(float(loss.detach()))
        optimiser.step(loss)
    if save is not None:
        state = dataclasses.replace(ClientState.of_adapter(adapter), moments=optimiser.moments())
        save_file(state.tensors(), save)
    return losses


def aligns(case: Case) -> None:
    """Its Co-LoRA modules get shared bases with those of another model of the kind."""
    models = {"one": case.model(), "two": load_checkpoint("two", case.second(), images=Noise())}  # type: ignore[arg-type]
    samples = case.samples(models["one"])
    asked = [dataclasses.replace(sample, id=f"{sample.id} {turn}") for turn in range(4) for sample in samples]
    alignment, random = (align(models, asked, rank=2, blocks=1, mode=mode) for mode in ("joint", "none"))
    assert alignment.mean().inputs > random.mean().inputs
    for model in models.values():
        adapter = Adapter.attach(
            model.module, model.decoder, slots=SLOTS, rank=2, alpha=2, blocks=1, seed=0, architecture="it"
        )
        adapter.load_basis(alignment.basis(model.architecture))


@torch.no_grad()
def exports_lora(case: Case) -> None:
    """PEFT computes the same with the exported adapter."""
    model = case.model()
    adapter = adapted(model)
    batch = model.collate(case.samples(model), with_answers=False)
    write_lora(adapter, case.scratch / "lora", base_model=str(case.folder))
    expected = _in_double(model, batch)
    base = getattr(tf, model.auto_class).from_pretrained(case.folder, dtype=torch.float64).eval()
    assert (_logits(base, batch) - expected).abs().max() > 1e-2
    theirs = PeftModel.from_pretrained(base, case.scratch / "lora").double().eval()
    torch.testing.assert_close(_logits(theirs, batch), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def exports_merged(case: Case) -> None:
    """Transformers computes the same with the merged weights, and the processor in the folder reads the same."""
    model = case.model()
    adapter = adapted(model)
    for name, parameter in (pair for group in adapter.named_groups().values() for pair in group.items()):
        if name.endswith(".Q"):  # an offset, for which some architectures have no bias: tests/adapters/test_export.py
            parameter.zero_()
    samples = case.samples(model)
    batch = model.collate(samples, with_answers=False)
    changes, config = merged(adapter, model.module)
    expected = _in_double(model, batch)
    adapter.detach()
    model.save(case.scratch / "merged", changes=changes, config=config)
    plain = getattr(tf, model.auto_class).from_pretrained(case.scratch / "merged", dtype=torch.float64).eval()
    torch.testing.assert_close(_logits(plain, batch), expected, rtol=1e-4, atol=2e-4)  # stored in float32
    again = load_checkpoint("merged", case.scratch / "merged", images=Noise())  # type: ignore[arg-type]
    assert torch.equal(again.collate(samples).input_ids, model.collate(samples).input_ids)


def _logits(module: Any, batch: Any) -> Tensor:
    inputs = {name: t.double() if t.is_floating_point() else t for name, t in inputs_of(batch).items()}
    logits: Tensor = module(**inputs, use_cache=False).logits
    return logits * batch.attention_mask[..., None]


def _in_double(model: CheckpointModel, batch: Any) -> Tensor:
    model.module.double()
    logits = _logits(model.module, batch)
    model.module.float()
    return logits


CHECKS: dict[str, Callable[[Case], None]] = {
    "load": loads,
    "batch": batches,
    "pictures": sees,
    "answers": answers,
    "placement": places,
    "tower adapter": tower,
    "training": learns,
    "resume": resumes,
    "alignment": aligns,
    "LoRA": exports_lora,
    "merged": exports_merged,
}
