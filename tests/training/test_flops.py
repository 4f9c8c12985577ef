"""The cost model against torch's own counter, with real adapters on a real model."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fedmosaic.adapters import EVERY_LAYER, Adapter, Slot
from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.models import load_base_model
from fedmosaic.models.cost import BatchShape, train_step_flops

TWO = (Slot("local", communicated=True), Slot("personal_global", communicated=False))


def addmm_in_place(_, left, right, **__):
    """Torch's counter knows only addmm that makes a new tensor."""
    return 2 * left[0] * left[1] * right[1]


@pytest.mark.parametrize(
    ("slots", "blocks", "gate", "mix", "frozen"),
    [
        (TWO[:1], 0, "none", {"local": 1.0}, ""),
        (TWO[:1], 0, "none", {"local": 1.0}, "A"),
        (TWO[:1], 0, "none", {"local": 1.0}, "B"),
        (TWO[:1], EVERY_LAYER, "none", {"local": 1.0}, "Q"),
        (TWO, 0, "none", {"local": 1.0}, ""),  # the other slot is there but not in use
        (TWO, 0, "none", {"local": 0.5, "personal_global": 0.5}, ""),
        (TWO, 2, "scalar", "gate", ""),
        (TWO, 4, "scalar", "gate", ""),
    ],
)
def test_a_training_step_is_counted_within_two_percent(home, slots, blocks, gate, mix, frozen):
    benchmark = load_benchmark("mosaic40", home=home)
    model = load_base_model("tiny-llama", images=benchmark.images, home=home)
    model.module.set_attn_implementation("eager")  # torch counts its products; the fused kernel is not counted on a CPU
    adapter = Adapter.attach(
        model.module, model.decoder, slots=slots, rank=16, alpha=32, blocks=blocks, gate=gate, seed=0, architecture="x"
    )
    adapter.train_only("local", gate=gate != "none", frozen=frozen)
    batch = model.collate(benchmark.task("trend@lines").train[:8])
    with adapter.mixed(mix):
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_in_place}) as counter:
            model.loss(batch).backward()
        sequences, length = batch.input_ids.shape
        shape = BatchShape(sequences, length, head_tokens=int((batch.labels != -100).sum()))
        counted = train_step_flops(model, shape)
    features = batch.vision["features"]
    projector = sum(p.numel() for p in model.module.model.multi_modal_projector.parameters() if p.ndim == 2)
    expected = counter.get_total_flops() - 2 * features.shape[0] * features.shape[1] * projector
    assert counted == pytest.approx(expected, rel=0.02)
    assert torch.isfinite(torch.tensor(float(counted)))
