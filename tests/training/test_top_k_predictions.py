"""What models say about public samples, before and after it has travelled."""

import pytest
import torch
import torch.nn.functional as F
from tests.methods.lab import Lab
from torch.testing import assert_close

from fedmosaic.errors import WireError
from fedmosaic.training.top_k_predictions import TopKPredictions, TopKSize

SIZE = TopKSize(samples=6, tokens=3, top=40)  # more than the vocabulary of 24; answers have two or three tokens


@pytest.fixture
def client():
    lab = Lab("fedmkt")
    client = lab.client(0)
    client.adapter.load_slot("local", lab.noise(client, "local"))
    return client


def test_predictions_are_the_same_after_communication(client):
    batches = client.public_batches(6)
    tensors = TopKPredictions.of(client, batches, mix="local", size=SIZE).tensors()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == SIZE.shapes()
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    knowledge = TopKPredictions.read(tensors, vocabulary=24, sender="client 0")
    dense = knowledge.dense(batches, vocabulary=24, chosen=torch.ones(6, dtype=torch.bool))
    row = 0
    for batch, probabilities in zip(batches, dense, strict=True):
        answers = client.predict(batch, mix="local")
        assert_close(probabilities, answers.logits.softmax(-1))
        each = F.cross_entropy(answers.logits, answers.targets, reduction="none")
        for index in range(len(batch.samples)):
            assert_close(knowledge.loss[row], each[answers.rows == index].sum())
            row += 1


def test_the_top_k_sum_to_one_longer_answers_are_cut_and_samples_that_are_not_chosen_are_left_out(client):
    batches = client.public_batches(6)
    knowledge = TopKPredictions.of(client, batches, mix="local", size=TopKSize(6, 2, 3))
    chosen = torch.tensor([True, True, False, True, True, False])
    row = 0
    for batch, probabilities in zip(batches, knowledge.dense(batches, vocabulary=24, chosen=chosen), strict=True):
        answers = client.predict(batch, mix="local")
        for index in range(len(batch.samples)):
            mine = probabilities[answers.rows == index]
            kept = min(2, len(mine)) if chosen[row] else 0
            assert_close(mine.sum(-1), torch.tensor([1.0] * kept + [0.0] * (len(mine) - kept)))
            if kept:
                logits = answers.logits[answers.rows == index][0]
                assert_close(mine[0][logits.topk(3).indices], logits.topk(3).values.softmax(-1))
            row += 1


def test_the_best_of_several_is_chosen_for_each_sample():
    def with_loss(*loss):
        marks = torch.tensor(loss)[:, None, None]
        return TopKPredictions(marks.expand(3, 1, 2), marks.expand(3, 1, 2).long(), torch.tensor(loss))

    best = TopKPredictions.best([with_loss(1.0, 5.0, 3.0), with_loss(2.0, 4.0, 3.5)])
    assert best.loss.tolist() == [1.0, 4.0, 3.0]
    assert best.probabilities[:, 0, 0].tolist() == [1.0, 4.0, 3.0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tokens", 24.0, "0 to 23"),
        ("tokens", -1.0, "0 to 23"),
        ("tokens", 2.5, "whole numbers"),
        ("probabilities", -0.1, "negative"),
        ("probabilities", 1.5, "more than 1"),
        ("loss", -2.0, "-2"),
    ],
)
def test_what_cannot_be_knowledge_is_refused_by_name(client, name, value, words):
    tensors = TopKPredictions.of(client, client.public_batches(6), mix="local", size=SIZE).tensors()
    tensors[f"public.{name}"].view(-1)[0] = value
    with pytest.raises(WireError, match=words) as error:
        TopKPredictions.read(tensors, vocabulary=24, sender="client 5")
    assert "client 5" in str(error.value)
