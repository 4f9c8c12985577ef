"""A client's releases with a stand-in probe whose sketches are known."""

from dataclasses import dataclass

import pytest
import torch

from fedmosaic.data.sample import Sample
from fedmosaic.errors import RunError
from fedmosaic.relevance import Exposure, PrivacySettings, ProbeBatch, Releases, calibrated_noise, spent_epsilon
from fedmosaic.relevance.release import exposure

SIZE = 8


@dataclass
class Known:
    """Every sample's sketch is its number in the first coordinate; remembers what it was shown."""

    def __post_init__(self):
        self.shown = []

    def __call__(self, samples):
        self.shown.append([sample.id for sample in samples])
        return torch.stack([float(s.id) * torch.eye(SIZE)[0] for s in samples]) if samples else torch.zeros(0, SIZE)


def named(*numbers):
    return [Sample(str(number), (), "a question", "an answer") for number in numbers]


def releases(**changes):
    settings = {
        "probe": Known(),
        "sanitise": "private",
        "clip": 1.0,
        "paper_noise": 0.0,
        "privacy": PrivacySettings(),
        "planned": Exposure(),
        "key": b"key",
        "client": 3,
    }
    return Releases(**{**settings, **changes})


def rounds(release, batches):
    memory = {}
    return [release(batch, memory, round_=r) for r, batch in enumerate(batches, start=1)], memory


def test_new_samples_in_every_round_cost_as_much_as_one_round():
    release = releases(privacy=PrivacySettings(epsilon=4.0))
    released, memory = rounds(release, [ProbeBatch(named(r), rate=1.0, again=False) for r in range(1, 31)])
    assert all(each is not None for each in released)
    report = release.report(memory)
    assert report["epsilon"] == pytest.approx(4.0, rel=1e-3)
    assert report["epsilon"] <= 4.0
    assert report["noise_multiplier"] == calibrated_noise(Exposure(), epsilon=4.0, delta=1e-5)


def test_samples_seen_again_add_up_to_the_budget_over_the_planned_rounds():
    release = releases(privacy=PrivacySettings(epsilon=4.0), planned=Exposure(5))
    spent = []
    memory = {}
    for r in range(1, 7):
        released = release(ProbeBatch(named(1, 2), rate=1.0, again=True), memory, round_=r)
        assert (released is not None) == (r <= 5)
        spent.append(release.report(memory)["epsilon"])
    assert spent[:5] == sorted(set(spent))
    assert spent[4] == spent[5] == pytest.approx(4.0, rel=1e-3)


def test_given_noise_and_a_budget_the_client_goes_silent_in_the_round_that_would_exceed_it():
    privacy = PrivacySettings(noise_multiplier=1.0, epsilon=10.0)
    affordable = max(t for t in range(1, 50) if spent_epsilon(Exposure(t), noise_multiplier=1.0, delta=1e-5) <= 10)
    probe = Known()
    released, memory = rounds(
        releases(privacy=privacy, planned=Exposure(20), probe=probe), [ProbeBatch(named(1), rate=1.0, again=True)] * 8
    )
    assert 1 < affordable < 8
    assert [each is not None for each in released] == [t <= affordable for t in range(1, 9)]
    assert len(probe.shown) == affordable  # what may not be released is not computed either
    assert exposure(memory) == Exposure(affordable)


def test_or_the_run_stops_and_says_what_to_do():
    privacy = PrivacySettings(noise_multiplier=1.0, epsilon=1.0, when_spent="stop")
    with pytest.raises(RunError, match=r"client 3.*round 1.*epsilon = 4\.38.*allows 1.*when_spent"):
        rounds(releases(privacy=privacy), [ProbeBatch(named(1), rate=1.0, again=False)])


def test_nothing_new_means_no_release_and_no_cost():
    released, memory = rounds(releases(), [ProbeBatch([], rate=1.0, again=False)])
    assert released == [None]
    assert memory == {}


def test_a_repeated_message_is_answered_with_the_same_release_and_another_round_with_another():
    batch = ProbeBatch(named(*range(20)), rate=0.5, again=False)
    first, again = (releases()(batch, {}, round_=1) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, releases()(batch, {}, round_=2))
    assert not torch.equal(first, releases(key=b"another")(batch, {}, round_=1))


def test_a_round_redone_over_other_samples_gets_other_noise_where_the_key_is_secret():
    """Round 3 with and without the samples of round 2: the difference of the sums would be theirs, without noise."""
    more, fewer = (ProbeBatch(named(*numbers), rate=1.0, again=False) for numbers in ([1, 1, 0, 0], [0, 0]))

    def noise(batch, exact, **changes):
        (released,), _ = rounds(releases(planned=Exposure(), **changes), [batch])
        return released * len(batch.samples) - exact * torch.eye(SIZE)[0]

    alike = torch.corrcoef(torch.stack([noise(more, 2.0), noise(fewer, 0.0)]))[0, 1]
    assert alike == pytest.approx(1.0, abs=1e-5)  # as it always was in runs that follow from their seed
    sigma = releases().noise_multiplier
    keys = [bytes([number]) for number in range(50)]
    pairs = [(noise(more, 2.0, key=k, by_samples=True), noise(fewer, 0.0, key=k, by_samples=True)) for k in keys]
    left, right = (torch.cat(each) for each in zip(*pairs, strict=True))
    assert abs(float(torch.corrcoef(torch.stack([left, right]))[0, 1])) < 0.2  # of 400 numbers: 4 standard errors
    assert float((left - right).std()) == pytest.approx(2**0.5 * sigma, rel=0.15)
    again, _ = rounds(releases(by_samples=True), [more])
    assert torch.equal(again[0], rounds(releases(by_samples=True), [more])[0][0])


def test_samples_of_two_tasks_with_one_id_are_told_apart():
    one, other = ([Sample("1", (), question, "an answer")] * 2 for question in ("a question", "another"))
    batches = [ProbeBatch(each, rate=1.0, again=False) for each in (one, other)]
    assert not torch.equal(*(releases(by_samples=True)(batch, {}, round_=1) for batch in batches))


def test_a_subsample_is_divided_by_its_expected_size():
    probe = Known()
    batch = ProbeBatch(named(*[1] * 400), rate=0.25, again=False)
    released = releases(probe=probe, sanitise="clip")(batch, {}, round_=1)
    taken = len(probe.shown[0])
    assert taken != 100  # by chance it may be; with this key it is not
    assert released[0] == pytest.approx(taken / 100)


@pytest.mark.parametrize("sanitise", ["clip", "paper"])
def test_ways_without_guarantee_report_none(sanitise):
    release = releases(sanitise=sanitise)
    released, memory = rounds(release, [ProbeBatch(named(5, 7), rate=1.0, again=False)])
    assert release.report(memory) == {}
    assert released[0][0] == pytest.approx(1.0 if sanitise == "clip" else 6.0)


@pytest.mark.parametrize("sanitise", ["private", "clip", "paper"])
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_a_sample_on_which_the_probe_overflows_counts_as_zero_and_costs_as_much(sanitise, bad):
    """It stays one of the samples looked at: the mean's denominator and the account do not tell of it."""
    (released,), memory = rounds(releases(sanitise=sanitise), [ProbeBatch(named(1, bad, 3), rate=1.0, again=True)])
    (without,), other = rounds(releases(sanitise=sanitise), [ProbeBatch(named(1, 0, 3), rate=1.0, again=True)])
    assert released.isfinite().all()
    assert torch.equal(released, without)
    assert releases(sanitise=sanitise).report(memory) == releases(sanitise=sanitise).report(other)
