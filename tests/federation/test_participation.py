"""The choice of a round's clients, as a pure function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.config import RunSettings, Scenario, resolve
from fedmosaic.errors import SettingsError
from fedmosaic.federation.participation import oldest_that_counts, participants, present, schedule


def settings(members, *, rounds=5, fraction=1.0, staleness=0, seed=0) -> RunSettings:
    clients = [
        {"id": client, "model": "tiny-llama", "tasks": ["trend@lines"], "joins": joins, "leaves": leaves}
        for client, (joins, leaves) in members.items()
    ]
    table = {"rounds": rounds, "participation": {"fraction": fraction, "staleness": staleness}}
    return resolve(Scenario(name="members", clients=clients, settings=table), seed=seed)


@st.composite
def runs(draw, most_clients=8, most_rounds=6):
    """Settings of runs in which somebody takes part in every round: the first client stays throughout."""
    rounds = draw(st.integers(1, most_rounds))
    ids = draw(st.lists(st.integers(0, 99), min_size=1, max_size=most_clients, unique=True))
    members = {ids[0]: (1, 0)}
    for client in ids[1:]:
        joins = draw(st.integers(1, rounds))
        members[client] = (joins, draw(st.just(0) | st.integers(joins, rounds + 2)))
    return settings(
        members,
        rounds=rounds,
        fraction=draw(st.floats(0.01, 1.0)),
        staleness=draw(st.integers(0, 3)),
        seed=draw(st.integers(0, 1000)),
    )


@given(runs())
def test_the_fraction_of_those_there_trains_and_at_least_one(run):
    for round_, chosen in schedule(run).items():
        there = [c.id for c in run.scenario.clients if c.joins <= round_ and (c.leaves == 0 or round_ <= c.leaves)]
        assert list(present(run, round_)) == sorted(there)
        assert len(chosen) == max(1, round(run.participation.fraction * len(there)))
        assert list(chosen) == sorted(set(chosen))
        assert set(chosen) <= set(there)


@given(runs(), st.randoms())
def test_the_choice_depends_neither_on_the_order_of_the_clients_nor_on_what_was_asked_before(run, random):
    clients = list(run.scenario.clients)
    random.shuffle(clients)
    shuffled = run.model_copy(update={"scenario": run.scenario.model_copy(update={"clients": tuple(clients)})})
    rounds = list(range(1, run.rounds + 1))
    random.shuffle(rounds)
    assert {round_: participants(shuffled, round_) for round_ in rounds} == schedule(run)


def test_all_clients_train_in_all_rounds_by_default():
    run = settings(dict.fromkeys((4, 0, 9), (1, 0)))
    assert set(schedule(run).values()) == {(0, 4, 9)}


def test_every_client_is_chosen_about_equally_often_and_rounds_and_seeds_differ():
    run = settings(dict.fromkeys(range(20), (1, 0)), rounds=1000, fraction=0.3)
    chosen = [client for clients in schedule(run).values() for client in clients]
    counts = [chosen.count(client) for client in range(20)]
    # 1,000 draws with p = 0.3: standard deviation 14.5; 20 clients stay within 4 of them.
    assert all(abs(count - 300) < 58 for count in counts)
    assert len(set(schedule(run).values())) > 900
    other = settings(dict.fromkeys(range(20), (1, 0)), rounds=10, fraction=0.3, seed=1)
    assert list(schedule(other).values()) != list(schedule(run).values())[:10]


@pytest.mark.parametrize(("staleness", "oldest"), [(0, 0), (1, 6), (3, 4)])
def test_staleness_counts_rounds_back_from_the_one_that_is_trained(staleness, oldest):
    assert oldest_that_counts(settings({0: (1, 0)}, rounds=7, staleness=staleness), 7) == oldest


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({0: (1, 0), 1: (6, 0)}, "client 1 joins after the last round, 5"),
        ({0: (1, 2), 1: (4, 0)}, "no client takes part in round 3"),
    ],
)
def test_a_run_in_which_a_client_or_a_round_would_be_empty_is_refused(members, message):
    with pytest.raises(SettingsError, match=message):
        settings(members)


def test_a_client_cannot_leave_before_it_joins():
    with pytest.raises(ValueError, match="client 7 joins in round 3 but leaves after round 2"):
        settings({7: (3, 2)})


@pytest.mark.parametrize("fraction", [0.0, 1.5, float("nan")])
def test_a_fraction_is_above_zero_and_at_most_one(fraction):
    with pytest.raises(SettingsError, match=r"participation\.fraction"):
        settings({0: (1, 0)}, fraction=fraction)
