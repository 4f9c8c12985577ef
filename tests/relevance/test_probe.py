"""The probe's gradient against autograd through the weight itself: RMSNorm and LayerNorm, own and outside models."""

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError
from fedmosaic.models import load_base_model
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.pretraining.tokenizers import fit_tokenizer
from fedmosaic.relevance import Probe, answer_gradients, make_sketch, probe_target
from fedmosaic.relevance.probe import CHUNK

COMMON = {"vocab_size": 400, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {**COMMON, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OUTSIDE = {
    "llama, RMSNorm": (LlamaForCausalLM, LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=2)),
    "gemma2, RMSNorm behind the MLP": (
        Gemma2ForCausalLM,
        Gemma2Config(**SMALL, intermediate_size=48, num_key_value_heads=2, head_dim=16),
    ),
    "gpt-neox, LayerNorm, parallel": (GPTNeoXForCausalLM, GPTNeoXConfig(**SMALL, intermediate_size=48)),
    "opt, LayerNorm, biases": (OPTForCausalLM, OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32)),
}
TEXT = [
    Sample("a", (), "what is red and green ? answer :", "a fish tool"),
    Sample("b", (), "first second odd one out ? answer :", "second"),
    Sample("c", (), "what kind of thing is this bird ? answer :", "bird boat fish tool green"),
]


@pytest.fixture(scope="module")
def mosaic(home):
    return load_benchmark("mosaic40", home=home)


@pytest.fixture(scope="module")
def tiny(mosaic, home):
    return load_base_model("tiny-llama", images=mosaic.images, home=home)


def outside(name):
    corpus = ["what kind of thing is this ? bird fish tool boat answer : first second odd one out green red"] * 20
    tokenizer = fit_tokenizer("bpe", corpus, vocabulary=300, whole_words=[])
    kind, config = OUTSIDE[name]
    torch.manual_seed(0)
    module = kind(config)
    with torch.no_grad():  # norms that scale and shift unevenly, as trained ones do
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return CheckpointModel(name, module, tokenizer, None, images=None)


def samples(mosaic, count=4):
    one_word = mosaic.task("lowest-bar@bars").train[: count // 2]
    several = mosaic.task("arrangement@photo").train[: count - count // 2]
    return [*one_word, *several]


def check_against_autograd(model, batch):
    """All samples at once, all answer tokens, against one backward pass per sample through the whole model."""
    parts = answer_gradients(model, model.collate(batch))
    layer = model.decoder.get_submodule(probe_target(model.decoder).path)
    layer.weight.requires_grad_(True)
    for row, sample in enumerate(batch):
        logits, targets, *_ = model.answer_logits(model.collate([sample]))
        (expected,) = torch.autograd.grad(F.cross_entropy(logits, targets), layer.weight)
        mine = parts.rows == row
        assert mine.sum() == len(targets)
        dense = parts.d[mine].T @ parts.h[mine]
        difference = (dense - expected).abs().max()
        assert difference <= 1e-5
        assert expected.abs().max() > 100 * difference
    layer.weight.requires_grad_(False)


@pytest.mark.parametrize("family", ["tiny-llama", "tiny-qwen2", "tiny-gemma"])
def test_per_sample_gradients_of_the_embedded_models_equal_autograd(family, mosaic, home):
    check_against_autograd(load_base_model(family, images=mosaic.images, home=home), samples(mosaic))


@pytest.mark.parametrize("name", OUTSIDE)
def test_per_sample_gradients_of_other_families_equal_autograd(name):
    check_against_autograd(outside(name), TEXT)


def make_probe(model, kind="projection", size=1024):
    where = probe_target(model.decoder)
    return Probe(
        model, make_sketch(kind, d_out=where.out_features, d_in=where.in_features, size=size, ratio=0.4, seed=0)
    )


@pytest.mark.slow
def test_sketch_keeps_the_cosines_of_the_full_gradients(tiny, mosaic):
    cosines = []
    for probe in (make_probe(tiny, "full"), make_probe(tiny), make_probe(tiny, size=4096)):
        tasks = [probe(mosaic.task(name).train[:8]).mean(0) for name in mosaic.task_names()[:12]]
        unit = F.normalize(torch.stack(tasks), dim=1)
        cosines.append(unit @ unit.T)
    pairs = torch.triu_indices(12, 12, offset=1).unbind()
    for sketched, limit in zip(cosines[1:], (0.05, 0.025), strict=True):
        assert (sketched - cosines[0])[pairs].abs().median() <= limit


def test_a_sample_has_the_same_sketch_in_whatever_company(tiny, mosaic):
    many = [*mosaic.task("lowest-bar@bars").train[:CHUNK], *mosaic.task("arrangement@photo").train[:5]]
    together = make_probe(tiny)(many)
    apart = torch.cat([make_probe(tiny)([sample]) for sample in many])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)
    assert torch.equal(together, make_probe(tiny)(many))


def test_no_samples_have_no_sketches_and_cost_nothing(tiny):
    probe = make_probe(tiny)
    assert probe([]).shape == (0, 1024)
    assert probe.flops == 0


def test_passes_are_counted(tiny, mosaic):
    probe = make_probe(tiny)
    probe(samples(mosaic, 2))
    once = probe.flops
    assert once > 2 * sum(p.numel() for p in tiny.decoder.layers.parameters() if p.ndim == 2)
    probe(samples(mosaic, 2))
    assert probe.flops == 2 * once


def test_a_probe_that_reads_text_only_says_so_to_images(mosaic):
    with pytest.raises(DataError, match=r"llama, RMSNorm.*text model.*scenario.*probe"):
        make_probe(outside("llama, RMSNorm"))(samples(mosaic))
