"""Translation between the shipped tokenizers: word level, byte-level BPE and Unigram."""

from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.methods.lab import NumbersModel, make_samples
from transformers import PreTrainedTokenizerFast

from fedmosaic.data.sample import Sample
from fedmosaic.models.base import IGNORED, Batch, pad_right
from fedmosaic.models.vision_weights import ASSETS
from fedmosaic.training import LocalBatch
from fedmosaic.training.token_alignment import TokenAligner, answer_tokens, characters_before, matching_tokens

NAMES = ("tiny-llama", "tiny-qwen2", "tiny-gemma")
PAIRS = list(permutations(NAMES, 2))
ANSWERS = ("yes", "second", "red music", "tree answer", "the lowest bar", "3 office")


def reader(name, extra=0):
    """A base model as far as translation sees it; ``extra`` logits are beyond the vocabulary."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(ASSETS / name)
    head = torch.nn.Linear(1, len(tokenizer) + extra)
    return SimpleNamespace(
        tokenizer=tokenizer,
        module=SimpleNamespace(get_output_embeddings=lambda: head),
        end_tokens=torch.tensor([tokenizer.eos_token_id]),
        device="cpu",
    )


@pytest.fixture(scope="module")
def readers():
    return {name: reader(name) for name in NAMES}


def read(model, answers=ANSWERS):
    """The batch as the model reads it: a prompt of one token, then the answers."""
    tokenizer = model.tokenizer
    tokens = [[*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id] for answer in answers]
    labels = pad_right([[IGNORED, *each] for each in tokens], IGNORED)
    samples = [Sample(str(i), (), "?", answer) for i, answer in enumerate(answers)]
    return LocalBatch(samples, Batch(labels.clamp(min=0), (labels != IGNORED).long(), labels))


def token(model, word):
    (found,) = model.tokenizer.encode(word, add_special_tokens=False)
    return found


def predicting(model, batch, **words):
    """Predictions with this probability on these words at every answer token."""
    count = int((batch.inputs.labels != IGNORED).sum())
    probabilities = torch.zeros(count, model.module.get_output_embeddings().out_features)
    for word, probability in words.items():
        probabilities[:, token(model, word)] = probability
    return probabilities


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_mass_lands_on_the_same_words_and_the_end_on_the_end(readers, source, target):
    one, other = readers[source], readers[target]
    here, there = read(one), read(other)
    probabilities = predicting(one, here, yes=0.5, second=0.2, red=0.1)
    probabilities[:, one.tokenizer.eos_token_id] = 0.2
    translated = TokenAligner(one, other)(probabilities, here, there)
    starts = [0]
    for tokens in answer_tokens(there)[:-1]:
        starts.append(starts[-1] + len(tokens))
    ends = [*(start - 1 for start in starts[1:]), len(translated) - 1]
    assert translated.shape == (sum(map(len, answer_tokens(there))), len(other.tokenizer))
    first_pieces = [i for i in starts if i != starts[3]]  # `tree` begins with a lone space mark in one vocabulary
    for row in [*first_pieces, *ends]:
        for word, probability in (("yes", 0.5), ("second", 0.2), ("red", 0.1)):
            assert translated[row, token(other, word)] == pytest.approx(probability)
        assert translated[row, other.tokenizer.eos_token_id] == pytest.approx(0.2)
        assert translated[row].sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_positions_with_a_target_are_those_where_some_token_was_predicted_from_the_same_text(readers, source, target):
    one, other = readers[source], readers[target]
    here, there = read(one), read(other)
    translated = TokenAligner(one, other)(predicting(one, here, yes=1.0), here, there)

    def texts(model, tokens):  # the oracle: what stands before each token, spelled out by the tokenizer
        return ["".join(model.tokenizer.decode(tokens[:i]).split()) for i in range(len(tokens))]

    expected = []
    for mine, theirs in zip(answer_tokens(here), answer_tokens(there), strict=True):
        before, own = texts(other, theirs), set(texts(one, mine))
        expected += [text in own and text not in before[i + 1 :] for i, text in enumerate(before)]
    assert (translated.sum(1) > 0).tolist() == expected
    assert sum(expected) >= 2 * len(ANSWERS)  # at least the start and the end of each


@pytest.mark.parametrize("name", NAMES)
def test_equal_tokenizers_translate_into_themselves_bit_for_bit(readers, name):
    batch = read(readers[name], (*ANSWERS, "extraordinarily unknown"))
    count = int((batch.inputs.labels != IGNORED).sum())
    probabilities = torch.rand(count, len(readers[name].tokenizer), generator=torch.Generator().manual_seed(0)).softmax(
        -1
    )
    assert torch.equal(TokenAligner(readers[name], reader(name))(probabilities, batch, batch), probabilities)


def test_logits_beyond_the_vocabulary_are_cut_or_empty(readers):
    small, large = readers["tiny-llama"], reader("tiny-llama", extra=3)
    batch = read(small)
    probabilities = predicting(small, batch, yes=1.0)
    wide = TokenAligner(small, large)(probabilities, batch, batch)
    assert torch.equal(wide, torch.nn.functional.pad(probabilities, (0, 3)))
    assert torch.equal(TokenAligner(large, small)(wide, batch, batch), probabilities)


def test_probability_without_a_counterpart_is_dropped(readers):
    one, other = readers["tiny-qwen2"], readers["tiny-llama"]
    here, there = read(one), read(other)
    probabilities = predicting(one, here, yes=0.25)
    probabilities[:, one.tokenizer.convert_tokens_to_ids("x")] = 0.5
    probabilities[:, one.tokenizer.pad_token_id] = 0.25
    assert one.tokenizer.convert_tokens_to_ids("x") not in matching_tokens(one.tokenizer, other.tokenizer)
    assert TokenAligner(one, other)(probabilities, here, there).sum(1).max() == pytest.approx(0.25)


def test_what_follows_an_unknown_word_is_left_out_but_for_the_end(readers):
    word_level = readers["tiny-llama"].tokenizer
    tokens = [*word_level.encode("red zyzzyva red", add_special_tokens=False), word_level.eos_token_id]
    assert characters_before(word_level, "red zyzzyva red", tokens) == {0: 0, 3: 1, 13: 3}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_translated_predictions_are_never_more_than_probabilities(seed):
    narrow, foreign = NumbersModel("narrow"), NumbersModel("foreign")
    samples = make_samples(seed, 3)
    here, there = (LocalBatch(samples, model.collate(samples)) for model in (narrow, foreign))
    count = int((here.inputs.labels != IGNORED).sum())
    probabilities = torch.randn(count, 24, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    translated = TokenAligner(narrow, foreign)(probabilities, here, there)
    assert bool((translated >= 0).all())
    # All but the padding token has a counterpart: 31 less the number, and the end.
    torch.testing.assert_close(translated[:, 8:].flip(1), probabilities[:, 2:])
    torch.testing.assert_close(translated[:, 1], probabilities[:, 1])
    torch.testing.assert_close(translated.sum(1), 1 - probabilities[:, 0])
