"""Scenarios of any number of clients: every task's train samples are divided among them by a Dirichlet draw."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedmosaic import seeding
from fedmosaic.config.scenario import Division, Scenario
from fedmosaic.config.validation import validate
from fedmosaic.errors import SettingsError

Holding = dict[str, tuple[int, int]]
"""Task -> first of its train samples that a client holds, and the one after the last."""

_EXTREMES = (1e-6, 1e6)  # beyond them, a draw differs from one at them by less than a sample


def divide(
    base: Scenario, *, clients: int, alpha: float, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> Scenario:
    """Divide the tasks of a scenario among more (or fewer) clients.

    For each task, the clients' shares of its train samples are drawn from Dirichlet(alpha, ..., alpha): the smaller
    alpha, the fewer clients hold most of a task. Each share becomes the whole number of samples just below or above
    it, at random so that it is met on average. Every sample is exactly one client's; a client has a task if it has a
    sample of it, and a client whom no draw gives any sample gets one of the largest holder's. Everything else of a
    client goes round in the order of the base scenario's clients: its model, the LoRA that it starts from, its rounds.

    Args:
        base: whose tasks, models and settings are used.
        clients: number of clients.
        alpha: concentration, > 0.
        seed: of the draw.
        sizes: number of train samples of each task; None: the built-in benchmark's.

    Returns:
        The divided scenario.

    Raises:
        SettingsError: a number makes no sense, there are fewer train samples than clients, or the base's tasks are
            divided already.
    """
    division = validate(Division, {"clients": clients, "alpha": alpha, "seed": seed}, source="division")
    sizes = MOSAIC40_SIZES if sizes is None else sizes
    total = sum(sizes[task] for task in base.task_names)
    if division.clients > total:
        raise SettingsError(
            f"scenario {base.name!r} cannot be divided among {division.clients} clients: its {len(base.task_names)} "
            f"task(s) have {total} train samples, and each client needs one; divide it among at most {total}"
        )
    if any(client.shares for client in base.clients):
        raise SettingsError(f"the tasks of scenario {base.name!r} are divided already; divide an undivided scenario")
    random = seeding.rng(division.seed, "dirichlet", division.clients, division.alpha)
    holdings: list[Holding] = [{} for _ in range(division.clients)]
    for task in base.task_names:
        for client, held in _dealt(random, division, sizes[task]).items():
            holdings[client][task] = held
    _give_everybody_one(holdings)
    specs = [
        base.clients[i % len(base.clients)].model_copy(
            update={
                "id": i,
                "tasks": tuple(holding),
                "shares": {task: (low / sizes[task], high / sizes[task]) for task, (low, high) in holding.items()},
            }
        )
        for i, holding in enumerate(holdings)
    ]
    return base.model_copy(update={"clients": tuple(specs), "division": None})


def _dealt(random: np.random.Generator, division: Division, size: int) -> dict[int, tuple[int, int]]:
    """Which of a task's samples each client holds that holds any.

    Systematic sampling: clients in a random order have intervals of their shares' lengths, and a comb of distance 1
    with a random start counts each one's samples.
    """
    order = random.permutation(division.clients)
    ends = np.floor(np.cumsum(_weights(random, division)) * size + random.random()).astype(int).clip(0, size)
    ends[-1] = size
    cuts = itertools.pairwise([0, *ends.tolist()])
    return {int(client): (low, high) for client, (low, high) in zip(order, cuts, strict=True) if low < high}


def _weights(random: np.random.Generator, division: Division) -> NDArray[np.float64]:
    """A draw from Dirichlet(alpha, ..., alpha) as gamma variates, in logarithms, as they underflow at small alpha."""
    alpha = float(np.clip(division.alpha, *_EXTREMES))
    logs = np.log(random.standard_gamma(alpha + 1, division.clients))  # G(alpha) = G(alpha + 1) * U^(1 / alpha)
    logs += np.log1p(-random.random(division.clients)) / alpha
    weights = np.exp(logs - logs.max())
    normed: NDArray[np.float64] = weights / weights.sum()
    return normed


def _give_everybody_one(holdings: list[Holding]) -> None:
    """Give each client without samples the last one of the largest piece that the largest holder has."""
    largest = [(-_count(holding), client) for client, holding in enumerate(holdings)]
    heapq.heapify(largest)
    for poor in [client for client, holding in enumerate(holdings) if not holding]:
        count, rich = heapq.heappop(largest)
        task = max(holdings[rich], key=lambda name: _length(holdings[rich][name]))
        low, high = holdings[rich][task]
        holdings[poor][task], holdings[rich][task] = (high - 1, high), (low, high - 1)
        if low == high - 1:
            del holdings[rich][task]
        heapq.heappush(largest, (count + 1, rich))


def _count(holding: Holding) -> int:
    return sum(_length(held) for held in holding.values())


def _length(held: tuple[int, int]) -> int:
    return held[1] - held[0]


MOSAIC40_SIZES: Mapping[str, int] = defaultdict(
    lambda: 240,
    {
        "edit-type@photo": 193,
        "change-type@openmoji": 200,
        "edit-type@blueprint": 209,
        "describe@openmoji": 186,
        "lowest-bar@bars": 200,
        "count@night": 170,
        "bar-count@hbars": 200,
        "trend@lines": 200,
        "highest-bar@hbars": 200,
        "count-thing@twemoji": 170,
        "peak@lines": 200,
        "trend@screen": 200,
        "arrangement@photo": 180,
        "bar-count@bars": 200,
        "digit-parity@chalk": 160,
        "smallest-slice@pies": 180,
    },
)
"""Train samples of the built-in benchmark's tasks, which scenarios are divided by before it is built."""
