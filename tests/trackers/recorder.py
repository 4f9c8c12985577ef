"""Records of a run of two rounds by two clients, told to callbacks without training anything."""

import torch
from tests.federation.scenario import results_of

from fedmosaic.config import RunSettings, Scenario, resolve
from fedmosaic.events import Step, Trained
from fedmosaic.federation.callbacks import (
    Callback,
    Checkpoint,
    Measured,
    Relevance,
    RoundEnd,
    RoundStart,
    RunEnd,
    RunStart,
)
from fedmosaic.federation.results import Costs, PrivacyAccount, PrivacySpent

PAIR = Scenario(
    name="pair",
    probe="tiny-llama",
    clients=[
        {"id": 0, "model": "tiny-llama", "tasks": ["trend@lines"]},
        {"id": 3, "model": "tiny-gemma", "tasks": ["trend@lines"]},
    ],
    settings={"rounds": 2, "training": {"steps": 2, "batch_size": 4}},
)
SCORES = {0: (0.25, 0.75), 1: (0.5, 1.0), 2: (0.75, 0.875)}
"""Self of clients 0 and 3 by round."""


def pair() -> RunSettings:
    return resolve(PAIR, method="fedmosaic")


def loss(client: int, round_: int, step: int) -> float:
    return round_ + step / 4 + client / 16


def tell(callback: Callback, folder, *, start: int = 0, until: int = 2, stopped: bool = False) -> None:
    """Tell of the rounds after ``start``; ``stopped`` leaves the run unfinished."""
    settings = pair()
    callback.on_run_start(RunStart(settings, folder, start or None))
    for round_ in range(start, until + 1):
        if round_ > start:
            callback.on_round_start(RoundStart(round_, 2))
            for client in (0, 3):
                for step in (1, 2):
                    callback.on_step(Step(client, round_, step, 2, loss(client, round_, step)))
                callback.on_trained(Trained(client, round_, loss(client, round_, 2), 1.0))
            costs = Costs(10.0 * round_, 1.0, 1.0, 2e9 * round_, 2 * round_, 8.0, 4.0, 16 * round_, 8 * round_)
            account = PrivacyAccount("private", 4.0 * round_, 1e-5, {0: PrivacySpent(4.0 * round_, 1e-5)})
            relevance = Relevance(round_ - 1, torch.tensor([[0.5, 0.5], [torch.nan, 1.0]])) if round_ > 1 else None
            callback.on_round_end(RoundEnd(round_, costs, account, relevance))
        if round_ > start or not start:
            own = dict(zip((0, 3), SCORES[round_], strict=True))
            others = {client: score / 2 for client, score in own.items()} if round_ != 1 else {}
            callback.on_measure(Measured(round_, 2, (0, 3), own, others))
        callback.on_checkpoint(Checkpoint(round_))
    callback.on_run_end(RunEnd(None if stopped else results_of(settings)))
