"""What a client takes for familiar, and how FedMosaic answers by it."""

import pytest
import torch
import torch.nn.functional as F
from tests.methods.lab import Lab

from fedmosaic.methods.familiarity import familiar, remember


def familiar_by_hand(asked, known, novelty_quantile):
    """One pair at a time."""
    centre = known.mean(0)

    def cosine(one, two):
        return float(F.cosine_similarity(one - centre, two - centre, dim=0))

    nearest = [max(cosine(a, b) for j, b in enumerate(known) if j != i) for i, a in enumerate(known)]
    least = float(torch.tensor(nearest).quantile(novelty_quantile))
    return [max(cosine(one, each) for each in known) >= least for one in asked]


@pytest.mark.parametrize("novelty_quantile", [0.0, 0.02, 0.3])
def test_familiar_agrees_with_pairs_by_hand(novelty_quantile):
    torch.manual_seed(3)
    known = torch.randn(30, 5) * 0.3 + torch.tensor([4.0, 0, 0, 0, 0])
    asked = torch.randn(40, 5) + torch.tensor([4.0, 0, 0, 0, 0])
    found = familiar(asked, known, novelty_quantile=novelty_quantile).tolist()
    assert found == familiar_by_hand(asked, known, novelty_quantile)
    assert 0 < sum(found) < len(found)


def test_known_questions_are_familiar_and_the_length_of_embeddings_does_not_count():
    torch.manual_seed(0)
    centred = torch.randn(20, 6)
    known = centred - centred.mean(0)
    assert familiar(known, known, novelty_quantile=0.5).all()
    asked = torch.randn(10, 6)
    assert familiar(7 * asked, known, novelty_quantile=0.2).equal(familiar(asked, known, novelty_quantile=0.2))


def test_to_a_single_known_question_everything_is_familiar():
    assert familiar(torch.randn(4, 3), torch.randn(1, 3), novelty_quantile=0.0).all()


def test_remembered_questions_are_all_kept_until_they_are_too_many():
    torch.manual_seed(0)
    one, two = torch.arange(6.0).view(3, 2), torch.arange(6.0, 12.0).view(3, 2)
    assert remember(None, one, 4).equal(one)
    assert remember(one, two, 6).equal(torch.cat([one, two]))
    few = remember(one, two, 4).tolist()
    assert len(few) == 4
    assert few == [row for row in torch.cat([one, two]).tolist() if row in few]  # none twice, in their order


def ready():
    few = {"answers": "familiarity", "relevance": "uniform", "known_per_round": 8, "novelty_quantile": 0.35}
    lab = Lab("fedmosaic", few, steps=3)
    client = lab.client()
    lab.train(client)
    client.adapter.load_slot("local", lab.noise(client, "local", seed=1))
    client.adapter.load_slot("personal_global", lab.noise(client, "personal_global", seed=2))
    return lab, client


@pytest.mark.slow
def test_familiar_questions_are_answered_with_both_slots_and_others_with_the_received_one():
    lab, client = ready()
    samples = lab.stream(client).tasks[0].train
    with client.adapter.disabled(), torch.no_grad():
        batch = client.base.collate(samples, with_answers=False)
        asked = client.base.hidden_states(batch)[torch.arange(len(samples)), batch.last]
    expected = familiar_by_hand(asked, client.memory["known"], lab.method.settings.novelty_quantile)
    assert 0 < sum(expected) < len(expected)
    with lab.method.answering(client) as model, torch.inference_mode():
        found = model.hidden_states(model.collate(samples, with_answers=False))
    for row, (sample, is_familiar) in enumerate(zip(samples, expected, strict=True)):
        mix = {"local": 0.5, "personal_global": 0.5} if is_familiar else {"personal_global": 1.0}
        with torch.no_grad(), client.adapter.mixed(mix):
            one = client.base.hidden_states(client.base.collate([sample], with_answers=False))[0]
        torch.testing.assert_close(found[row, : len(one)], one, atol=1e-4, rtol=1e-4)


def test_what_is_known_comes_from_the_base_model_alone_and_stays_with_the_client():
    lab, client = ready()
    other = lab.client()
    lab.train(other, lab.noise(other, "personal_global", seed=5))  # trains otherwise on the same questions
    assert client.memory["known"].shape == (8, client.base.module.config.hidden_size)
    assert client.memory["known"].equal(other.memory["known"])
    assert not any("known" in name for name in lab.method.upload(client))


def test_remembering_counts_as_compute():
    flops = []
    for answers in ("gate", "familiarity"):
        lab = Lab("fedmosaic", {"answers": answers, "relevance": "uniform", "gate": False}, steps=3)
        client = lab.client()
        lab.train(client)
        flops.append(client.meter.flops)
    assert flops[1] > flops[0]


def test_it_cannot_be_folded_into_one_adapter():
    assert not Lab("fedmosaic", {"answers": "familiarity"}).method.answers_by_mixing
    assert Lab("fedmosaic").method.answers_by_mixing
