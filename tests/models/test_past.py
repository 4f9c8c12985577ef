"""Answers and likelihoods after a key-value cache against those of models that read everything anew."""

import dataclasses

import pytest
import torch
import transformers as tf
from tests.models.test_decoders import KINDS, SLOTS
from tests.models.test_processors import save_gemma3, save_idefics3

from fedmosaic.adapters import Adapter
from fedmosaic.adapters.tower import TowerSite
from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample
from fedmosaic.models import likelihoods
from fedmosaic.models.base import IGNORED, Batch, pad_right
from fedmosaic.models.batch import following
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.generation import Continuing, Rereading
from fedmosaic.models.likelihoods import log_likelihoods
from fedmosaic.models.past import Past
from fedmosaic.models.past_check import can_read_on
from fedmosaic.models.prompts import read
from fedmosaic.models.read import load_checkpoint
from fedmosaic.pretraining.tokenizers import fit_tokenizer

LONG = 12  # tokens of an answer: past the ends of short sliding windows
SMALL = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def saver(kind, config):
    def save(folder):
        kind(config).save_pretrained(folder)
        words = "what kind of thing is this ? options : bird fish tool boat answer : first second red and green a"
        fit_tokenizer("bpe", [words] * 20, vocabulary=300, whole_words=[]).save_pretrained(folder)

    return save


CHECKPOINTS = {
    "gemma3": save_gemma3,
    "idefics3": save_idefics3,
    "window": saver(
        tf.Gemma2ForCausalLM, tf.Gemma2Config(**SMALL, head_dim=16, sliding_window=8, final_logit_softcapping=1.0)
    ),
    **{name: saver(*KINDS[name]) for name in ("gpt2", "bloom", "mpt", "opt", "falcon", "gpt_neo")},
}


@pytest.fixture(params=sorted(CHECKPOINTS))
def checkpoint(request, noise, tmp_path):
    """Random weights large enough that what was read before decides what is said next."""
    torch.manual_seed(0)
    CHECKPOINTS[request.param](tmp_path)
    model = load_checkpoint(request.param, tmp_path, images=noise)
    unsettle(model)
    return model


def unsettle(model):
    torch.manual_seed(1)
    for parameter in model.module.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))


def questions(model, samples):
    chosen = samples if model.reads_images else [sample for sample in samples if not sample.images]
    return [*chosen, Sample("e", (), "answer :", "bird")]


def wide(asked):
    """The questions with options of several tokens."""
    options = ("bird fish", "a tool and a boat", "red")
    return [dataclasses.replace(each, answer=options[0], options=options) for each in asked]


@torch.no_grad()
def agree(model, asked):
    """Scores of the next token, after whatever was said."""
    kept, anew = model.answering(asked), Rereading(model, model.collate(asked, with_answers=False))
    assert isinstance(kept, Continuing)
    going_on = torch.ones(len(asked), dtype=torch.bool)
    near = 1e-8 if model.module.dtype == torch.float64 else 1e-4
    for step in range(LONG):
        torch.testing.assert_close(kept.scores()[going_on], anew.scores()[going_on], rtol=near, atol=near)
        going_on = torch.arange(len(asked)) * 2 + 2 > step  # rows end at different steps
        tokens = torch.arange(7, 7 + len(asked)) + step  # no image tokens
        for each in (kept, anew):
            each.say(tokens, going_on)
        assert kept.lengths.tolist() == anew.lengths.tolist()


@pytest.mark.slow
def test_answers_of_checkpoints_are_those_without_a_past(checkpoint, samples, monkeypatch):
    asked = questions(checkpoint, samples)
    agree(checkpoint, asked)
    answers = checkpoint.answer(asked, max_tokens=LONG)
    monkeypatch.setattr("fedmosaic.models.base.can_read_on", lambda *_: False)
    assert checkpoint.answer(asked, max_tokens=LONG) == answers


@torch.no_grad()
def test_likelihoods_of_checkpoints_are_those_without_a_past(checkpoint, samples, monkeypatch):
    asked = wide(questions(checkpoint, samples))
    found = log_likelihoods(checkpoint, asked)
    monkeypatch.setattr(likelihoods, "can_read_on", lambda *_: False)
    torch.testing.assert_close(found, log_likelihoods(checkpoint, asked), rtol=1e-5, atol=1e-4)


def exact(model):
    """In float64, as gates by token magnify what rounding makes of their inputs."""
    model.module.double()
    return model


def attach(model, gate, *, tower, dtype=torch.float32):
    interface = model.interface
    torch.manual_seed(1)
    site = TowerSite(interface, torch.linalg.qr(torch.randn(interface.features, 4))[0].T) if tower else None
    adapter = Adapter.attach(
        model.module,
        model.decoder,
        slots=SLOTS,
        rank=4,
        alpha=8,
        blocks=1,
        gate=gate,
        seed=0,
        architecture="it",
        tower=site,
        dtype=dtype,
    )
    torch.manual_seed(1)
    for group in adapter.named_groups().values():
        for parameter in group.values():
            torch.nn.init.normal_(parameter, std=0.3)
    adapter.train(False)
    model.adapter = adapter
    return adapter


@pytest.mark.slow
@pytest.mark.parametrize(("gate", "seen"), [("none", False), ("scalar", True), ("token", False), ("sample", True)])
def test_adapted_families_answer_as_without_a_past(tiny, samples, monkeypatch, gate, seen):
    adapter = attach(exact(tiny), gate, tower=seen, dtype=torch.float64)
    try:
        asked = questions(tiny, samples)
        agree(tiny, asked)
        choices = wide(asked)
        with torch.no_grad():
            found = log_likelihoods(tiny, choices)
            with adapter.disabled():
                assert not torch.allclose(found[0], log_likelihoods(tiny, choices)[0], atol=1e-2)
            monkeypatch.setattr(likelihoods, "can_read_on", lambda *_: False)
            torch.testing.assert_close(found, log_likelihoods(tiny, choices), rtol=1e-5, atol=1e-4)
    finally:
        adapter.detach()
        tiny.adapter = None
        tiny.module.float()


@pytest.mark.slow
def test_weights_of_single_samples_stay_theirs(tiny, samples, monkeypatch):
    adapter = attach(exact(tiny), "none", tower=False, dtype=torch.float64)
    try:
        asked, collate = questions(tiny, samples), type(tiny).collate

        def weighed(self, chosen, *, with_answers=True):
            shares = torch.tensor([asked_before.get(each.id, 0.5) for each in chosen])
            batch = collate(self, chosen, with_answers=with_answers)
            return dataclasses.replace(batch, slot_weights={"local": shares, "other": 1 - shares})

        asked_before = {each.id: row / len(asked) for row, each in enumerate(asked)}
        monkeypatch.setattr(type(tiny), "collate", weighed)
        agree(tiny, asked)
        choices = wide(asked)
        with torch.no_grad():
            found = log_likelihoods(tiny, choices)
            monkeypatch.setattr(likelihoods, "can_read_on", lambda *_: False)
            torch.testing.assert_close(found, log_likelihoods(tiny, choices), rtol=1e-5, atol=1e-4)
    finally:
        adapter.detach()
        tiny.adapter = None
        tiny.module.float()


@pytest.mark.slow
def test_answers_end_at_the_last_position_though_others_go_on(tiny, samples, monkeypatch):
    asked = questions(tiny, samples)
    lengths = (tiny.collate(asked, with_answers=False).last + 1).tolist()
    monkeypatch.setattr(tiny, "limit", max(lengths) + 2)
    monkeypatch.setattr(type(tiny), "end_tokens", torch.tensor([10**6]))
    answering = tiny.answering(asked)
    for _ in range(5):
        rows = answering.lengths < tiny.limit
        answering.say(answering.scores().argmax(-1), rows)
    assert answering.lengths.tolist() == [min(length + 5, max(lengths) + 2) for length in lengths]
    answers = tiny.answer(asked, max_tokens=5)
    monkeypatch.setattr("fedmosaic.models.base.can_read_on", lambda *_: False)
    assert tiny.answer(asked, max_tokens=5) == answers


def test_a_model_that_computes_otherwise_after_a_past_reads_anew(noise, samples, tmp_path, monkeypatch):
    """As one would whose recurrent states take up one token at a time only."""
    torch.manual_seed(0)
    CHECKPOINTS["opt"](tmp_path)
    model = load_checkpoint("opt", tmp_path, images=noise)
    unsettle(model)
    decode = type(model).decode

    def forgetful(self, batch):
        if batch.past is not None and batch.past._mask is not None:
            batch.past._last = batch.past._last + 1
        return decode(self, batch)

    monkeypatch.setattr(type(model), "decode", forgetful)
    told = []
    monkeypatch.setattr("fedmosaic.events.emit", lambda kind, **fields: told.append(fields["text"]))
    asked = questions(model, samples)
    assert isinstance(model.answering(asked), Rereading)
    assert not can_read_on(model, model.collate(asked, with_answers=False))
    assert len(told) == 1
    assert "opt" in told[0]


def test_positions_after_images_that_count_in_three_dimensions(monkeypatch):
    """Qwen2-VL's, whose texts go on from the largest side of an image, not from the number of its tokens."""
    mark, begin = 20, 21
    torch.manual_seed(0)
    config = tf.Qwen2VLConfig(
        text_config={**SMALL, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        vision_config={"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 32, "patch_size": 4},
        image_token_id=mark, video_token_id=23, vision_start_token_id=begin, vision_end_token_id=22,
    )  # fmt: skip
    module = tf.Qwen2VLForConditionalGeneration(config)
    tokenizer = fit_tokenizer("bpe", ["what is red ?"] * 20, vocabulary=300, whole_words=[])
    model = CheckpointModel("qwen", module, tokenizer, None, GivenImages(()))
    unsettle(model)
    grids = torch.tensor([[1, 4, 4], [1, 4, 12]])
    rows = [[5, begin, *[mark] * 4, 22, 6], [7, 8, 9], [begin, *[mark] * 12, 22, 6, 7, 8]]
    ids = pad_right(rows, 0)
    mask = pad_right([[1] * len(row) for row in rows], 0)
    vision = {
        "pixel_values": torch.randn(int(grids.prod(1).sum()), 3 * 2 * 4 * 4),
        "image_grid_thw": grids,
        "mm_token_type_ids": (ids == mark).long(),
    }
    batch = Batch(ids, mask, torch.full_like(ids, IGNORED), vision=vision)
    monkeypatch.setattr(model, "collate", lambda *_, **__: batch)
    assert can_read_on(model, batch)
    agree(model, [None] * 3)


@pytest.mark.slow
@torch.inference_mode()
def test_pasts_that_are_put_together_are_read_on_as_each_alone(checkpoint, samples):
    """One batch of several clients' prompts, of unlike lengths, and on past the ends of sliding windows."""
    if not can_read_on(checkpoint, checkpoint.collate(questions(checkpoint, samples), with_answers=False)):
        return
    asked = sorted(questions(checkpoint, samples), key=lambda each: len(each.prompt))
    batches = [checkpoint.collate(some, with_answers=False) for some in (asked[:1], asked[-2:])]
    alone = [read(checkpoint, batch)[0] for batch in batches]
    pasts = [past.of(torch.arange(len(batch.input_ids))) for past, batch in zip(alone, batches, strict=True)]
    for token in range(10, 10 + LONG):
        whole = Past.of_all(pasts)
        if whole is None:
            assert checkpoint.name in {"bloom", "mpt", "falcon"}, "it has positions"
            return
        tokens = [torch.full((len(batch.input_ids), 1), token) for batch in batches]
        joint = torch.cat(tokens)
        found = checkpoint.hidden_states(following(batches[0], joint, torch.ones_like(joint), whole))
        for past, share in zip(pasts, whole.shares([1, 2]), strict=True):
            past.take(share)
        for batch, own, past, part in zip(batches, tokens, alone, found.split([1, 2]), strict=True):
            expected = checkpoint.hidden_states(following(batch, own, torch.ones_like(own), past))
            torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-4)
