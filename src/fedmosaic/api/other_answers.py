"""What the clients of a finished run would answer with other weights: nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.api.objects import Objects
from fedmosaic.api.opening import open_finished
from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.errors import SettingsError
from fedmosaic.experiments.other_answers import averaged_over, scores_with, slot_weights
from fedmosaic.experiments.rescoring import self_and_others
from fedmosaic.federation import ClientRuntime, RunFolder
from fedmosaic.io import write_atomically


@dataclass(frozen=True)
class SelfAndOthers:
    """Means over the clients, in [0, 1]; None where nobody has such tasks.

    Attributes:
        self_: on the clients' own tasks.
        others: on the other clients' tasks.
    """

    self_: float | None
    others: float | None


@dataclass(frozen=True)
class OtherAnswers:
    """Scores of a run with other weights.

    Attributes:
        title: of the method.
        as_run: as the run itself answers.
        mix: by what was asked for, e.g. ``L`` or ``0.25``.
        average: with the mean of the last weights; None if that was not asked for.
        rows: all of these by what they are, in words.
    """

    title: str
    as_run: SelfAndOthers
    mix: Mapping[str, SelfAndOthers]
    average: SelfAndOthers | None
    rows: Mapping[str, SelfAndOthers]


def other_answers(
    run: Path,
    *,
    mix: Sequence[str | float] = (),
    average: int | None = None,
    after_exchange: bool = False,
    device: str | None = None,
    objects: Objects | None = None,
    tell: Teller = SILENT,
) -> OtherAnswers:
    """Score a finished run with other weights; what came out is kept in its folder, too, as ``answers.json``.

    Args:
        run: folder of a finished run.
        mix: weights of the method's two slots: ``L`` (the local one alone), ``M`` (the received mixture alone) or the
            weight of the received one from 0 to 1.
        average: answer with the mean of the weights after so many last rounds.
        after_exchange: mix the slots as the last exchange has left them, not as local training has.
        device: where models compute; default: where they did, or what ``auto`` takes if that is not there.
        objects: what the run was given as objects.
        tell: shows what takes long.

    Returns:
        Self and Others, beside those of the run.

    Raises:
        SettingsError: the run is not done, nothing is asked for, or the run has no such weights.
        FedMosaicError: data, models or states are missing, or have changed since the run.
    """
    if not mix and average is None:
        raise SettingsError("--mix and --average are both missing: expected at least one of them")
    if after_exchange and average is not None:
        raise SettingsError("--average is over weights after local training; give it without --after-exchange")
    runtime = open_finished(run, objects, after_exchange=after_exchange, device=device)
    method, rounds = runtime.assets.method, runtime.assets.settings.rounds
    results = RunFolder(run).results()
    answers = results.exchanged if results and after_exchange else results
    parts = (answers.self_, answers.others) if answers else (None, None)
    as_run = SelfAndOthers(*(part.last if part else None for part in parts))
    weights = {text: slot_weights(method, text) for text in map(str, mix)}
    averaged = None if average is None else averaged_over(runtime.assets.settings, average)
    mean = None
    with tell.working(f"{len(weights) + (average is not None)} other way(s) to answer"):
        mixed = {text: SelfAndOthers(*scores_with(runtime, each, rounds=rounds)) for text, each in weights.items()}
        if averaged is not None:
            runtime.adapters.detach()
            other = ClientRuntime(runtime.assets.with_settings(averaged), RunFolder(run).client_folder)
            mean = SelfAndOthers(*self_and_others(other, rounds=rounds))
    how = "as the run answers" + (" after the last exchange" if after_exchange else "")
    rows = {how: as_run, **{f"mix {text}": each for text, each in mixed.items()}}
    if mean is not None:
        rows[f"mean of {average} rounds"] = mean
    table = {name: {"self": each.self_, "others": each.others} for name, each in rows.items()}
    write_atomically(run / "answers.json", json.dumps(table, indent=1) + "\n")
    return OtherAnswers(method.title, as_run, mixed, mean, rows)
