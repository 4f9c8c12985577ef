import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.stream import Stream, _draw
from fedmosaic.errors import SettingsError


def make_task(name: str, number: int) -> Task:
    samples = tuple(Sample(f"{name}-{i}", (), "q", "a") for i in range(number))
    return Task(name, "vqa", samples, (), samples[:1])


TASKS = st.lists(st.integers(1, 30), min_size=1, max_size=5).map(
    lambda sizes: [make_task(f"t{i}", size) for i, size in enumerate(sizes)]
)
PROTOCOLS = st.sampled_from(["static", "dynamic"])


@settings(max_examples=60, deadline=None)
@given(TASKS, PROTOCOLS, st.integers(1, 12), st.integers(0, 3))
def test_every_train_sample_arrives_exactly_once(tasks: list[Task], protocol: str, rounds: int, seed: int) -> None:
    stream = Stream(tasks, protocol, rounds, seed)
    arrived = Counter(sample.id for r in range(1, rounds + 1) for sample in stream.arrivals(r))
    assert arrived == Counter(sample.id for task in tasks for sample in task.train)


@settings(max_examples=60, deadline=None)
@given(TASKS, st.integers(1, 12), st.integers(0, 3))
def test_dynamic_rounds_are_even_and_in_order(tasks: list[Task], rounds: int, seed: int) -> None:
    stream = Stream(tasks, "dynamic", rounds, seed)
    named = [[task.name for task in stream.tasks_at(r)] for r in range(1, rounds + 1)]
    if rounds >= len(tasks):
        assert all(len(names) == 1 for names in named)
        lengths = [sum(names == [task.name] for names in named) for task in tasks]
        assert sum(lengths) == rounds
        assert max(lengths) - min(lengths) <= 1
        assert lengths == sorted(lengths, reverse=True)
    flat = list(dict.fromkeys(name for names in named for name in names))
    assert flat == [task.name for task in tasks]
    for r in range(1, rounds + 1):
        assert {s.id.split("-")[0] for s in stream.arrivals(r)} <= set(named[r - 1])


def test_static_mixes_all_tasks_into_every_round() -> None:
    stream = Stream([make_task("a", 60), make_task("b", 60)], "static", 4, 0)
    for r in range(1, 5):
        assert {s.id[0] for s in stream.arrivals(r)} == {"a", "b"}
        assert len(stream.arrivals(r)) == 30


@settings(max_examples=60, deadline=None)
@given(TASKS, PROTOCOLS, st.integers(1, 6), st.integers(1, 7), st.integers(1, 8), st.integers(0, 3))
def test_batches_hold_only_what_has_arrived_and_nothing_twice(
    tasks: list[Task], protocol: str, rounds: int, steps: int, batch_size: int, seed: int
) -> None:
    stream = Stream(tasks, protocol, rounds, seed)
    arrived: set[str] = set()
    for r in range(1, rounds + 1):
        arrived |= {sample.id for sample in stream.arrivals(r)}
        batches = stream.batches(r, steps, batch_size)
        assert len(batches) == steps
        for batch in batches:
            ids = [sample.id for sample in batch]
            assert len(set(ids)) == len(ids) == min(batch_size, len(ids))
            assert set(ids) <= arrived
        assert len(batches[-1]) == min(batch_size, len(arrived))


@settings(max_examples=30, deadline=None)
@given(TASKS, PROTOCOLS, st.integers(2, 6), st.integers(1, 5), st.integers(1, 6))
def test_a_resumed_stream_draws_what_the_first_would_have(
    tasks: list[Task], protocol: str, rounds: int, steps: int, batch_size: int
) -> None:
    whole = Stream(tasks, protocol, rounds, 7)
    in_order = [whole.batches(r, steps, batch_size) for r in range(1, rounds + 1)]
    resumed = Stream(tasks, protocol, rounds, 7)
    resumed.batches(1, steps + 1, batch_size)  # a question with another budget leaves no trace
    assert resumed.batches(rounds, steps, batch_size) == in_order[-1]
    assert resumed.batches(1, steps, batch_size) == in_order[0]


@settings(max_examples=30, deadline=None)
@given(TASKS, PROTOCOLS, st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(1, 6))
def test_rounds_of_unlike_steps_follow_each_other_whatever_was_asked_before(
    tasks: list[Task], protocol: str, pace: list[int], batch_size: int
) -> None:
    def stream() -> Stream:
        return Stream(tasks, protocol, len(pace), 7, pace=lambda r: pace[r - 1])

    whole, rounds = stream(), range(1, len(pace) + 1)
    in_order = [whole.batches(r, pace[r - 1], batch_size) for r in rounds]
    assert [len(batches) for batches in in_order] == pace
    resumed = stream()
    resumed.batches(len(pace), pace[-1] + 1, batch_size)  # a question with another budget leaves no trace
    assert [resumed.batches(r, pace[r - 1], batch_size) for r in reversed(rounds)] == in_order[::-1]


def test_a_long_round_before_is_what_was_drawn_from() -> None:
    """A sample drawn 50 times waits for the new one to catch up; with a round of one step before, it does not."""
    task = make_task("a", 2)
    draws = {}
    for before in (1, 50):
        stream = Stream([task], "static", 2, 0, pace=lambda _, steps=before: steps)
        (old,) = stream.arrivals(1)
        draws[before] = [s for batch in stream.batches(2, 10, 1) for s in batch].count(old)
    assert draws[50] == 0 < draws[1]


def test_seeds_and_clients_differ() -> None:
    tasks = [make_task("a", 40)]
    draws = {tuple(s.id for b in Stream(tasks, "static", 2, seed).batches(1, 3, 4) for s in b) for seed in range(5)}
    assert len(draws) == 5


def test_changing_a_returned_batch_changes_nothing() -> None:
    stream = Stream([make_task("a", 8)], "static", 1, 0)
    first = stream.batches(1, 2, 4)
    first[0].clear()
    assert len(stream.batches(1, 2, 4)[0]) == 4


def test_a_sample_that_arrives_late_is_drawn_until_it_has_caught_up() -> None:
    stream = Stream([make_task("a", 2)], "static", 2, 0)
    (old,), (new,) = stream.arrivals(1), stream.arrivals(2)
    assert [s for batch in stream.batches(1, 50, 1) for s in batch] == [old] * 50
    drawn = [s for batch in stream.batches(2, 60, 1) for s in batch]
    assert drawn[:10] == [new] * 10  # the old sample's count is near 39: the new one needs some 25 draws to meet it
    assert 0.3 < drawn[40:].count(new) / 20 < 0.7


def test_the_draw_follows_the_softmax_of_the_counts() -> None:
    counts = np.array([0.0, 0.125, 0.25])
    rng = np.random.default_rng(0)
    first = Counter(int(_draw(counts, 1, rng)[0]) for _ in range(20_000))
    weights = [math.exp(-c / 0.125) for c in counts]
    for i, weight in enumerate(weights):
        assert first[i] / 20_000 == pytest.approx(weight / sum(weights), abs=0.012)


def test_huge_counts_do_not_break_the_draw() -> None:
    counts = np.array([0.0, 500.0, 1000.0])
    assert sorted(_draw(counts, 3, np.random.default_rng(0))) == [0, 1, 2]
    assert _draw(counts, 1, np.random.default_rng(0))[0] == 0


@pytest.mark.parametrize(("protocol", "rounds", "tasks"), [("static", 0, 1), ("odd", 1, 1), ("static", 1, 0)])
def test_impossible_streams_are_refused(protocol: str, rounds: int, tasks: int) -> None:
    with pytest.raises(SettingsError):
        Stream([make_task("a", 4)] * tasks, protocol, rounds, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, 4, -1])
def test_rounds_outside_the_run_are_refused(number: int) -> None:
    stream = Stream([make_task("a", 4)], "static", 3, 0)
    for ask in (stream.tasks_at, stream.arrivals, lambda r: stream.batches(r, 1, 1)):
        with pytest.raises(SettingsError, match="rounds 1 to 3"):
            ask(number)


@settings(max_examples=40, deadline=None)
@given(TASKS, PROTOCOLS, st.integers(1, 6), st.integers(1, 9), st.integers(0, 3))
def test_a_stream_that_begins_later_has_its_own_rounds(
    tasks: list[Task], protocol: str, rounds: int, first: int, seed: int
) -> None:
    stream, plain = Stream(tasks, protocol, rounds, seed, first=first), Stream(tasks, protocol, rounds, seed)
    for r in range(1, rounds + 1):
        assert stream.arrivals(r + first - 1) == plain.arrivals(r)
    for outside in (first - 1, first + rounds):
        with pytest.raises(SettingsError, match=f"the rounds {first} to {first + rounds - 1}"):
            stream.batches(outside, 1, 1)


def test_in_an_idle_round_samples_arrive_and_nothing_is_drawn() -> None:
    task = make_task("a", 40)
    idle = Stream([task], "static", 2, 0, idle={1})
    assert idle.arrivals(1) == Stream([task], "static", 2, 0).arrivals(1)
    # None of the 40 has been drawn when round 2 begins: its 5 x 8 draws favour those not drawn yet, so they take all.
    drawn = Counter(sample.id for batch in idle.batches(2, 5, 8) for sample in batch)
    assert len(drawn) == 40
    # After a round of training, the samples of round 1 have been drawn, and those of round 2 come first.
    trained = Counter(s.id for batch in Stream([task], "static", 2, 0).batches(2, 5, 8) for s in batch)
    assert len(trained) < 40


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(TASKS, PROTOCOLS, st.integers(1, 6), st.integers(1, 4), st.integers(1, 5))
def test_more_rounds_change_nothing_before_and_draw_from_all_samples(
    tasks: list[Task], protocol: str, rounds: int, more: int, steps: int
) -> None:
    plain, longer = Stream(tasks, protocol, rounds, 3), Stream(tasks, protocol, rounds, 3, after=more)
    assert longer.last == plain.last + more
    for r in range(1, rounds + 1):
        assert longer.arrivals(r) == plain.arrivals(r)
        assert longer.tasks_at(r) == plain.tasks_at(r)
        assert longer.batches(r, steps, 4) == plain.batches(r, steps, 4)
    everything = {sample.id for task in tasks for sample in task.train}
    for r in range(rounds + 1, rounds + more + 1):
        assert longer.arrivals(r) == longer.tasks_at(r) == ()
        assert {sample.id for batch in longer.batches(r, steps, 4) for sample in batch} <= everything
    # No sample was drawn more often before than there were steps, and the least drawn are drawn first.
    paced = Stream(tasks, protocol, rounds, 3, after=more, pace=lambda _: steps)
    enough = paced.batches(rounds + more, (steps * (rounds + more) + 3) * len(everything), 4)
    assert {sample.id for batch in enough for sample in batch} == everything
    with pytest.raises(SettingsError, match="does not exist"):
        longer.batches(rounds + more + 1, 1, 1)
