import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40.bank import Picture
from fedmosaic.data.mosaic40.build import open_public
from fedmosaic.data.sample import Sample
from fedmosaic.models.vision_weights import ASSETS
from fedmosaic.pretraining import train as pretrain
from fedmosaic.pretraining.muon import Muon
from fedmosaic.pretraining.phases import PhaseSchedule
from fedmosaic.pretraining.skill_accuracy import likeliest_options, skill_accuracy, skill_of
from fedmosaic.pretraining.tokenizers import is_one_token
from fedmosaic.pretraining.train import Recipe, answer_words, dialogue_loss, optimisers
from fedmosaic.registry import FAMILIES

ONE = Dialogue(("000001",), (("<image> what is this ? answer :", "bird"),))
TWO = Dialogue(("000001", "000002"), (("<image> first <image> second which ? answer :", "second"),))


@pytest.fixture
def copied(tiny):
    twin = copy.copy(tiny)
    twin.module = copy.deepcopy(tiny.module)
    twin.decoder = twin.module.get_decoder()
    return twin


@pytest.fixture(scope="module")
def bank(home):
    return open_public(home)


def test_learning_rate_rises_stays_and_falls():
    recipe = Recipe(seconds=10, lr=1.0, warm_up=4, decay=0.5)
    assert [recipe.learning_rate(step, 0.1) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert recipe.learning_rate(99, 0.5) == 1.0
    assert recipe.learning_rate(99, 0.75) == pytest.approx(0.5)
    assert recipe.learning_rate(99, 1.0) == 0.02


@pytest.mark.slow
def test_curriculum_looks_matches_compares_and_then_mixes(bank):
    curriculum = PhaseSchedule(bank, size=8, start=0.0, seed=0)
    looking, matching, comparing, everything = (
        [d for _ in range(24) for d in curriculum.next(progress)] for progress in (0.1, 0.35, 0.5, 0.9)
    )
    assert sum(len(d.images) > 1 for d in looking) < len(looking) / 2
    assert all("same thing as the first" in d.turns[0][0] for d in matching)
    asked = {
        phrase for d in comparing for phrase in ("same thing", "same kind", "which image") if phrase in d.turns[0][0]
    }
    assert len(asked) >= 2
    assert any(len(d.images) == 1 and "where is" in " ".join(text for text, _ in d.turns) for d in comparing)
    assert any(len(d.images) == 1 for d in everything)


def test_matrices_inside_go_to_muon_and_every_weight_to_one_optimiser(copied):
    copied.decoder.requires_grad_(True)
    muon, adam = optimisers(copied.module, Recipe(seconds=1))
    assert isinstance(muon, Muon)
    inner = {id(p) for group in muon.param_groups for p in group["params"]}
    rest = {id(p) for group in adam.param_groups for p in group["params"]}
    assert not inner & rest
    assert inner | rest == {id(p) for p in copied.module.parameters() if p.requires_grad}
    assert id(copied.decoder.embed_tokens.weight) in rest


def test_a_long_caption_weighs_less_than_its_tokens(tiny):
    caption = Dialogue(("000001",), (("<image> describe . answer :", "bird fish tool boat bird fish tool boat"),))
    losses = [dialogue_loss(tiny, tiny.collate_dialogues([d])) for d in (ONE, caption)]
    sizes = [int((tiny.collate_dialogues([d]).labels != -100).sum()) for d in (ONE, caption)]
    weights = [size**0.5 for size in sizes]
    expected = (weights[0] * losses[0] + weights[1] * losses[1]) / sum(weights)
    torch.testing.assert_close(dialogue_loss(tiny, tiny.collate_dialogues([ONE, caption])), expected)


@pytest.mark.slow
def test_training_learns_and_leaves_tower_and_flags_alone(copied, monkeypatch):
    pictures = [Picture(key, "icon", "x", {"category": "bird"}) for key in ("000001", "000002")]
    bank = SimpleNamespace(pool=SimpleNamespace(pictures=pictures))
    monkeypatch.setattr(pretrain, "PhaseSchedule", lambda bank, **_: SimpleNamespace(next=lambda progress: [ONE, TWO]))
    tower = {name: value.clone() for name, value in copied.module.model.vision_tower.state_dict().items()}
    before = float(dialogue_loss(copied, copied.collate_dialogues([ONE, TWO])))
    steps = pretrain.train(copied, bank, Recipe(seconds=1.5, batch=4, warm_up=2), log=lambda _: None)
    assert steps > 2
    assert float(dialogue_loss(copied, copied.collate_dialogues([ONE, TWO]))) < 0.5 * before
    assert all(torch.equal(tower[name], value) for name, value in copied.module.model.vision_tower.state_dict().items())
    assert not any(parameter.requires_grad for parameter in copied.module.parameters())


@pytest.mark.parametrize(
    ("text", "skill"),
    [
        ("which image shows a bird ?", "which-image"),
        ("do the first and second image show the same thing ?", "same-thing"),
        ("is this a bird ?", "is-it"),
        ("is the second image gray ?", "edit-check"),
        ("where is the bird ?", "place-in-image"),
        ("how many things are there ? options : 1 2", "count"),
        ("nothing of the kind ?", "other"),
    ],
)
def test_questions_are_told_apart(text, skill):
    assert skill_of(Sample("q", ("000001",), f"<image> {text} answer :", "yes", ("yes", "no"))) == skill


@pytest.mark.slow
def test_choices_do_not_depend_on_the_batch_and_are_counted(tiny, samples):
    asked = [sample for sample in samples if sample.options] * 3
    chosen = likeliest_options(tiny, asked)
    assert chosen == likeliest_options(tiny, asked, batch=1)
    assert all(choice in sample.options for choice, sample in zip(chosen, asked, strict=True))
    result = skill_accuracy(tiny, asked)["category"]
    right = [c == s.answer for c, s in zip(chosen, asked, strict=True) if len(s.options) == 4]
    assert result == {"accuracy": round(sum(right) / len(right), 3), "chance": 0.25, "samples": 6}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_answer_word_is_one_token_of_every_shipped_tokenizer(name, bank):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(ASSETS / name)
    words = answer_words(bank)
    assert {"yes", "no", "first", "fourth", "bird", "1", "red"} <= words
    assert [word for word in sorted(words) if not is_one_token(tokenizer, word)] == []
