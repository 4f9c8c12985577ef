"""Small text models: what a training writes is a checkpoint, and one that was broken off goes on."""

import json
import random

import pytest
import torch

from fedmosaic.data.images import GivenImages
from fedmosaic.data.words.benchmark import WordsBenchmark
from fedmosaic.models import load_base_model
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.pretraining import text
from fedmosaic.pretraining.text_families import TEXT_FAMILIES, build_text_module
from fedmosaic.pretraining.tokenizers import fit_tokenizer
from fedmosaic.pretraining.train import Recipe


def make(family="text-llama"):
    samples = [sample for name in ("sum@numbers", "kind@made") for sample in WordsBenchmark().task(name).train[:50]]
    corpus = [f"{sample.prompt} {sample.answer}" for sample in samples]
    tokenizer = fit_tokenizer(TEXT_FAMILIES[family].tokenizer, corpus, vocabulary=300, whole_words=())
    module = build_text_module(TEXT_FAMILIES[family], len(tokenizer))
    return CheckpointModel(family, module, tokenizer, None, GivenImages(()))


class Clock:
    """CPU time that passes by one second with each look."""

    def __init__(self):
        self.now = 0.0

    def process_time(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(text, "time", Clock())
    monkeypatch.setattr(text, "_EVERY", 0.5)


@pytest.mark.slow
def test_a_training_that_was_broken_off_goes_on_as_if_it_had_not_been(clock, tmp_path):
    recipe = Recipe(seconds=5.0, batch=2, warm_up=1)
    whole = make()
    steps = text.train(whole, recipe, tmp_path / "whole", log=lambda line: None)

    def stop(line):
        if "step 2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        text.train(make(), recipe, tmp_path / "state", log=stop)
    again = make()
    with torch.no_grad():
        for parameter in again.module.parameters():
            parameter.add_(1.0)  # the weights are those of the file
    text.time.now = 0.0
    told = []
    assert text.train(again, recipe, tmp_path / "state", log=told.append) == steps
    assert "step 2" in told[0]
    for name, tensor in whole.module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[name], tensor, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(TEXT_FAMILIES))
def test_the_outcome_is_a_small_checkpoint_that_a_scenario_can_name(family, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "corpus", lambda: [f"{sample.prompt} {sample.answer}" for sample in asked])
    asked = text.public_questions(300, random.Random(0))
    text.pretrain(family, Recipe(seconds=1.0, batch=4), out=tmp_path / "out", log=lambda line: None)
    assert not (tmp_path / "out" / "state.safetensors").exists()
    assert 0 <= json.loads((tmp_path / "out" / "pretraining.json").read_text())["public questions"] <= 1
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) < 2_000_000
    model = load_base_model(str(tmp_path / "out"), images=GivenImages(()), home=tmp_path)
    assert not model.reads_images
    assert model.loss(model.collate(asked[:4])).isfinite()
    number = model.tokenizer.encode("what is 4711 ?", add_special_tokens=False)
    assert "4711" in model.tokenizer.decode(number)


@pytest.mark.slow
def test_what_is_learned_is_learned(tmp_path):
    model = make("text-gemma")
    batch = model.collate(text.public_questions(8, random.Random(0)))
    before = model.loss(batch).item()
    text.train(model, Recipe(seconds=1.0, batch=8, warm_up=1), tmp_path / "state", log=lambda line: None)
    assert model.loss(batch).item() < before
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
