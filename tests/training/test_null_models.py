"""Models that compute nothing, against the real ones: the same shapes, tokens and costs."""

import pytest
import torch

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.federation.tower_basis import tower_site
from fedmosaic.relevance import Probe, make_sketch
from fedmosaic.relevance.probe import probe_target
from fedmosaic.training import ModelPool, NullModelPool

TASKS = ("trend@lines", "odd-one-out@openmoji", "describe@openmoji")  # prompts, images and answers of unlike lengths
TWO = (Slot("local", communicated=True), Slot("personal_global", communicated=False))


def pools(home):
    images = load_benchmark("mosaic40", home=home).images
    return ModelPool(images=images, home=home), NullModelPool(images=images, home=home)


@pytest.mark.slow
def test_batches_have_the_same_tokens_and_outputs_the_same_shapes(home):
    benchmark = load_benchmark("mosaic40", home=home)
    samples = [sample for task in TASKS for sample in benchmark.task(task).train[:2]]
    for name in ("tiny-llama", "tiny-gemma"):
        real, still = (pool.model(name) for pool in pools(home))
        for with_answers in (True, False):
            expected, found = (model.collate(samples, with_answers=with_answers) for model in (real, still))
            for part in ("attention_mask", "labels", "last", "prompt"):
                assert torch.equal(getattr(expected, part), getattr(found, part)), part
            inside = expected.attention_mask.bool()
            assert torch.equal(expected.input_ids[inside], found.input_ids[inside])
        batch = still.collate(samples)
        answers, zeros = real.answer_logits(real.collate(samples)), still.answer_logits(batch)
        assert [part.shape for part in answers] == [part.shape for part in zeros]
        assert torch.equal(answers.targets, zeros.targets)
        assert zeros.logits.eq(0).all()
        assert not zeros.logits.requires_grad


def test_what_is_open_gets_gradients_of_zero_and_nothing_else_any(home):
    model = pools(home)[1].model("tiny-llama")
    adapter = Adapter.attach(
        model.module, model.decoder, slots=TWO, rank=4, alpha=8, blocks=2, gate="scalar", seed=0, architecture="x"
    )
    adapter.train_only("local", gate=True)
    batch = model.collate(load_benchmark("mosaic40", home=home).task(TASKS[0]).train[:2])
    model.loss(batch).backward()
    opened = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
    assert opened
    assert all(torch.equal(parameter.grad, torch.zeros_like(parameter)) for parameter in opened)
    assert all(parameter.grad is None for parameter in adapter.parameters("personal_global").values())
    (gradient,) = torch.autograd.grad(model.answer_logits(batch).embeddings.sum(), opened[0])
    assert gradient.eq(0).all()
    with torch.no_grad():
        assert not model.answer_logits(batch).logits.requires_grad


def test_a_tower_adapter_costs_the_same_on_a_still_model(home):
    samples = load_benchmark("mosaic40", home=home).task(TASKS[0]).train[:4]
    counts = []
    for pool in pools(home):
        model = pool.model("tiny-llama")
        model.adapter = Adapter.attach(
            model.module, model.decoder, slots=TWO[:1], rank=4, alpha=8, seed=0, architecture="x",
            tower=tower_site(model, 256, home=home),
        )  # fmt: skip
        opened = model.adapter.train_only("local")["tower"]
        batch = model.collate(samples)
        counts.append(pool.pass_flops(model, batch, trained=("local",), mix="local"))
        model.loss(batch).backward()
    assert counts[0] == counts[1] > 0
    assert all(torch.equal(parameter.grad, torch.zeros_like(parameter)) for parameter in opened)


def test_a_still_probe_counts_what_the_real_one_counts(home):
    samples = load_benchmark("mosaic40", home=home).task(TASKS[1]).train[:20]
    counts = []
    for pool in pools(home):
        model = pool.probe("tiny-llama")
        where = probe_target(model.decoder)
        sketch = make_sketch("projection", d_out=where.out_features, d_in=where.in_features, size=64, ratio=0.4, seed=0)
        probe = Probe(model, sketch)
        sketches = probe(samples)
        assert sketches.shape == (20, 64)
        counts.append(probe.flops)
    assert sketches.isfinite().all()
    assert counts[0] == counts[1] > 0
