from collections import Counter
from itertools import islice

import pytest

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40.build import Mosaic40, PublicBank
from fedmosaic.data.mosaic40.public import corpus, public_mixture, public_samples, public_texts
from fedmosaic.data.mosaic40.tasks import SEEN, UNSEEN


@pytest.fixture(scope="module")
def dialogues(public_bank: PublicBank) -> list[Dialogue]:
    return list(islice(public_mixture(public_bank, seed=0), 6000))


def words_of_tasks(mosaic: Mosaic40) -> tuple[set[str], set[str]]:
    samples = [s for name in (*SEEN, *UNSEEN) for split in ("train", "test") for s in getattr(mosaic.task(name), split)]
    return {w for s in samples for w in s.prompt.split()}, {w for s in samples for w in s.answer.split()}


@pytest.mark.slow
def test_dialogues_are_well_formed(dialogues: list[Dialogue], public_bank: PublicBank) -> None:
    keys = set(public_bank.images.keys())
    for dialogue in dialogues:
        first, *others = (text for text, _ in dialogue.turns)
        assert set(dialogue.images) <= keys
        assert first.count("<image>") == len(dialogue.images) >= 1
        assert not any("<image>" in text for text in others)
        assert all(text.endswith(" answer :") and answer for text, answer in dialogue.turns)
        assert len({text for text, _ in dialogue.turns}) == len(dialogue.turns) <= 6


def test_the_mixture_is_a_function_of_its_seed(dialogues: list[Dialogue], public_bank: PublicBank) -> None:
    assert list(islice(public_mixture(public_bank, seed=0), 50)) == dialogues[:50]
    assert list(islice(public_mixture(public_bank, seed=1), 50)) != dialogues[:50]


def test_every_word_of_the_tasks_is_known_from_the_mixture(mosaic: Mosaic40, dialogues: list[Dialogue]) -> None:
    """A word that pretraining never showed would make a task answer at random, or its opposite."""
    asked, answered = words_of_tasks(mosaic)
    texts = Counter(word for d in dialogues for text, answer in d.turns for word in f"{text} {answer}".split())
    answers = Counter(word for d in dialogues for _, answer in d.turns for word in answer.split())
    assert {word for word in asked | answered if texts[word] < 5} == set()
    assert {word for word in answered if answers[word] < 5} == set()


@pytest.mark.slow
def test_the_corpus_holds_every_word(mosaic: Mosaic40, public_bank: PublicBank, dialogues: list[Dialogue]) -> None:
    known = Counter(word for text in corpus(public_bank) for word in text.split())
    asked, answered = words_of_tasks(mosaic)
    mixed = {word for d in dialogues for text, answer in d.turns for word in f"{text} {answer}".split()}
    assert (asked | answered | mixed) - set(known) == set()
    assert {word for word in answered if known[word] < 20} == set()


def test_the_clients_questions_are_not_asked_about_public_images(dialogues: list[Dialogue]) -> None:
    """They occur in text-only turns (``words : ...``), never about what is seen."""
    theirs = ("odd one out", "rule of the first", "in common", "comes next", "more things ?", "up or down", "peak")
    for dialogue in dialogues:
        for text, _ in dialogue.turns:
            question = text.removesuffix(" answer :").split(" . ")
            if any(phrase in text for phrase in theirs):
                assert len(question) > 1, text


def test_public_samples_have_one_question_and_options(public_bank: PublicBank) -> None:
    samples = public_samples(public_bank, 400, seed=3)
    assert len(samples) == 400 == len({s.id for s in samples})
    assert all(s.options and s.answer in s.options for s in samples)
    assert samples == public_samples(public_bank, 400, seed=3)
    assert len({s.prompt.split(">")[-1] for s in samples}) > 100


def test_yes_and_no_are_about_equally_right(dialogues: list[Dialogue]) -> None:
    answers = Counter(answer for d in dialogues for _, answer in d.turns if answer in {"yes", "no"})
    assert 0.4 < answers["yes"] / answers.total() < 0.6


def test_public_texts_are_questions_without_images():
    texts = public_texts(300, seed=1)
    assert len({sample.id for sample in texts}) == 300
    assert len({sample.prompt for sample in texts}) > 200
    for sample in texts:
        assert sample.images == ()
        assert sample.prompt == sample.prompt.strip()
        assert sample.answer in (sample.options or ())
    assert public_texts(300, seed=1) == texts
    assert public_texts(300, seed=2) != texts
