"""The cost model against torch's own counter, with real adapters on a real model."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fedmosaic.adapters import EVERY_LAYER, Adapter, Slot
from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.data.sample import Sample
from fedmosaic.federation.tower_basis import tower_site
from fedmosaic.models import load_base_model
from fedmosaic.models.cost import batch_shape, train_step_flops

TWO = (Slot("local", communicated=True), Slot("personal_global", communicated=False))


def addmm_in_place(_, left, right, **__):
    """Torch's counter knows only addmm that makes a new tensor."""
    return 2 * left[0] * left[1] * right[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slots", "blocks", "gate", "mix", "frozen", "tower_rank"),
    [
        (TWO[:1], 0, "none", {"local": 1.0}, "", 0),
        (TWO[:1], 0, "none", {"local": 1.0}, "A", 0),
        (TWO[:1], 0, "none", {"local": 1.0}, "B", 0),
        (TWO[:1], EVERY_LAYER, "none", {"local": 1.0}, "Q", 0),
        (TWO, 0, "none", {"local": 1.0}, "", 0),  # the other slot is there but not in use
        (TWO, 0, "none", {"local": 0.5, "personal_global": 0.5}, "", 0),
        (TWO, 2, "scalar", "gate", "", 0),
        (TWO, 4, "scalar", "gate", "", 0),
        (TWO[:1], 0, "none", {"local": 1.0}, "", 256),
        (TWO, 2, "scalar", "gate", "", 256),
    ],
)
def test_a_training_step_is_counted_within_two_percent(home, slots, blocks, gate, mix, frozen, tower_rank):
    benchmark = load_benchmark("mosaic40", home=home)
    model = load_base_model("tiny-llama", images=benchmark.images, home=home)
    model.module.set_attn_implementation("eager")  # torch counts its products; the fused kernel is not counted on a CPU
    adapter = model.adapter = Adapter.attach(
        model.module, model.decoder, slots=slots, rank=16, alpha=32, blocks=blocks, gate=gate, seed=0,
        architecture="x", tower=tower_site(model, tower_rank, home=home),
    )  # fmt: skip
    adapter.train_only("local", gate=gate != "none", frozen=frozen)
    batch = model.collate(benchmark.task("trend@lines").train[:8])
    with adapter.mixed(mix):
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_in_place}) as counter:
            model.loss(batch).backward()
        counted = train_step_flops(model, batch_shape(model, batch))
    features = batch.vision["features"]
    projector = sum(p.numel() for p in model.module.model.multi_modal_projector.parameters() if p.ndim == 2)
    expected = counter.get_total_flops() - 2 * features.shape[0] * features.shape[1] * projector
    assert counted == pytest.approx(expected, rel=0.02)
    assert torch.isfinite(torch.tensor(float(counted)))


def test_pictures_cost_more_with_a_tower_adapter_and_words_do_not(home):
    benchmark = load_benchmark("mosaic40", home=home)
    model = load_base_model("tiny-llama", images=benchmark.images, home=home)
    words = [Sample("words", (), "what is red ? answer :", "fish")]
    for samples, dearer in ((benchmark.task("trend@lines").train[:4], True), (words, False)):
        plain, tower = (cost_of(model, samples, tower_site(model, rank, home=home)) for rank in (0, 256))
        assert (tower > plain) == dearer
        assert tower >= plain


def cost_of(model, samples, tower):
    """Operations of a training step."""
    model.adapter = Adapter.attach(
        model.module, model.decoder, slots=TWO[:1], rank=4, alpha=8, seed=0, architecture="x", tower=tower
    )
    model.adapter.train_only("local")
    cost = train_step_flops(model, batch_shape(model, model.collate(samples)))
    model.adapter.detach()
    model.adapter = None
    return cost
