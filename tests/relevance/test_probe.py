"""The probe's gradient against autograd through the weight itself, on every embedded family."""

import pytest
import torch
import torch.nn.functional as F

from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.models import load_base_model
from fedmosaic.relevance import Probe, answer_gradients
from fedmosaic.relevance.probe import output_projection

FAMILIES = ["tiny-llama", "tiny-qwen2", "tiny-gemma"]


@pytest.fixture(scope="module")
def mosaic(home):
    return load_benchmark("mosaic40", home=home)


def samples(mosaic, count=4):
    one_word = mosaic.task("lowest-bar@bars").train[: count // 2]
    several = mosaic.task("arrangement@photo").train[: count - count // 2]
    return [*one_word, *several]


@pytest.mark.parametrize("family", FAMILIES)
def test_per_sample_gradients_equal_autograd(family, mosaic, home):
    model = load_base_model(family, images=mosaic.images, home=home)
    batch = samples(mosaic)
    parts = answer_gradients(model, model.collate(batch))
    weight = output_projection(model.decoder).weight
    weight.requires_grad_(True)
    for row, sample in enumerate(batch):
        logits, targets, *_ = model.answer_logits(model.collate([sample]))
        (expected,) = torch.autograd.grad(F.cross_entropy(logits, targets), weight)
        mine = parts.rows == row
        assert mine.sum() == len(targets)
        dense = torch.einsum("no,ni->oi", parts.d[mine], parts.h[mine])
        torch.testing.assert_close(dense, expected, atol=1e-5, rtol=1e-4)
    weight.requires_grad_(False)


def make_probe(model, **changes):
    settings = {"size": 1024, "clip": 1.0, "noise_multiplier": 0.0, "seed": 0, "noise_seed": 1}
    return Probe(model, **{**settings, **changes})


def test_sketch_keeps_the_cosines_of_the_full_gradients(mosaic, home):
    model = load_base_model("tiny-llama", images=mosaic.images, home=home)
    full, sketched = [], []
    for name in mosaic.task_names()[:12]:
        batch = mosaic.task(name).train[:8]
        parts = answer_gradients(model, model.collate(batch))
        full.append(torch.einsum("no,ni->oi", parts.d, parts.h).flatten())
        probe = make_probe(model, clip=1e9)
        probe.observe(batch)
        sketched.append(probe.release())
    unit = F.normalize(torch.stack(full), dim=1)
    exact = unit @ unit.T
    unit = F.normalize(torch.stack(sketched), dim=1)
    pairs = torch.triu_indices(12, 12, offset=1).unbind()
    error = (unit @ unit.T - exact)[pairs].abs()
    assert error.median() < 0.05


def test_no_sample_counts_for_more_than_the_clip(mosaic, home):
    model = load_base_model("tiny-llama", images=mosaic.images, home=home)
    (sample,) = samples(mosaic, 2)[:1]
    for clip in (1e-3, 1e3):
        probe = make_probe(model, clip=clip)
        probe.observe([sample])
        assert probe.release().norm() <= clip * 1.0001
    tight = make_probe(model, clip=1e-3)
    tight.observe([sample])
    assert tight.release().norm() == pytest.approx(1e-3, rel=1e-3)


def test_noise_is_of_the_stated_size_private_and_reproducible(mosaic, home):
    model = load_base_model("tiny-llama", images=mosaic.images, home=home)
    batch = samples(mosaic)
    released = []
    for noise_multiplier, noise_seed in ((0.0, 1), (2.0, 1), (2.0, 1), (2.0, 2)):
        probe = make_probe(model, noise_multiplier=noise_multiplier, noise_seed=noise_seed, clip=0.5)
        probe.observe(batch)
        released.append(probe.release())
    clean, noisy, same, other = released
    assert torch.equal(noisy, same)
    assert not torch.equal(noisy, other)
    # The sum of 4 samples gets noise of standard deviation 2 * 0.5, so the mean gets 0.25.
    assert (noisy - clean).std().item() == pytest.approx(0.25, rel=0.1)


def test_a_probe_that_saw_nothing_says_so(mosaic, home):
    model = load_base_model("tiny-llama", images=mosaic.images, home=home)
    with pytest.raises(ValueError, match="observed no sample"):
        make_probe(model).release()
