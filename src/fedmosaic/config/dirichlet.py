"""Scenarios of any number of clients: every task's train samples are divided among them by a Dirichlet draw."""

from __future__ import annotations

import itertools

import numpy as np

from fedmosaic import seeding
from fedmosaic.config.scenario import ClientSpec, Scenario

LEAST_SHARE = 0.02
"""Smaller shares of a task are dropped: with 240 samples this is fewer than five."""


def divide(base: Scenario, *, clients: int, alpha: float, seed: int = 0) -> Scenario:
    """Divide the tasks of a scenario among more (or fewer) clients.

    For each task, the clients' shares of its train samples are drawn from Dirichlet(alpha, ..., alpha): the smaller
    alpha, the fewer clients hold most of a task. Models go round in the order of the base scenario.

    Args:
        base: whose tasks, models and settings are used.
        clients: number of clients.
        alpha: concentration, > 0.
        seed: of the draw.
    """
    random = seeding.rng(seed, "dirichlet", clients, alpha)
    shares: list[dict[str, tuple[float, float]]] = [{} for _ in range(clients)]
    for task in base.task_names:
        edges = np.concatenate([[0.0], np.cumsum(random.dirichlet(np.full(clients, alpha)))])
        for client, (low, high) in enumerate(itertools.pairwise(edges)):
            if high - low >= LEAST_SHARE:
                shares[client][task] = (round(float(low), 6), round(float(high), 6))
    for client, share in enumerate(shares):
        if not share:
            _halve_largest(shares, client)
    models = [spec.model for spec in base.clients]
    specs = [
        ClientSpec(id=i, model=models[i % len(models)], tasks=tuple(share), shares=share)
        for i, share in enumerate(shares)
    ]
    name = f"{base.name}-dirichlet-{clients}"
    title = f"{clients} clients, {len(base.task_names)} tasks divided by Dirichlet({alpha:g})"
    return base.model_copy(update={"name": name, "title": title, "clients": tuple(specs)})


def _halve_largest(shares: list[dict[str, tuple[float, float]]], client: int) -> None:
    """Give a client without any task half of the largest share that somebody holds."""
    width = {(owner, task): high - low for owner, share in enumerate(shares) for task, (low, high) in share.items()}
    owner, task = max(width, key=lambda key: width[key])
    low, high = shares[owner][task]
    middle = round((low + high) / 2, 6)
    shares[owner][task], shares[client][task] = (low, middle), (middle, high)
