"""What the clients of a finished run would answer with other weights, without any training.

Either other weights of a client's two slots (the local and the received knowledge), the same in all layers, in place of
those that it was trained with; or the mean of its weights after its last rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.adapters import SlotWeights
from fedmosaic.config import RunSettings, varied
from fedmosaic.errors import SettingsError
from fedmosaic.experiments.rescoring import self_and_others
from fedmosaic.federation.runtime import ClientRuntime
from fedmosaic.methods.base import Method

_LOCAL = ("local", "personal")
"""What methods with two slots call the one that holds a client's own knowledge."""
_KEPT_ROUNDS = 2
"""Rounds whose weights a run keeps of each client whatever its settings say."""


def slot_weights(method: Method[Any], text: str) -> Mapping[str, float]:
    """Read weights of a method's two slots.

    Args:
        method: of the run.
        text: ``L``, the local slot alone; ``M``, the received mixture alone; or the weight of the received slot, from
            0 to 1, whose rest the local one gets.

    Returns:
        Slot -> weight.

    Raises:
        SettingsError: it is none of these, or the method does not answer with a mixture of two slots.
    """
    names = [slot.name for slot in method.slots]
    local = [name for name in names if name in _LOCAL]
    if len(names) != 2 or len(local) != 1 or not method.answers_by_mixing:
        raise SettingsError(
            f"--mix: {method.title} does not answer with a mixture of two slots, so there are no other weights to try; "
            "expected a run of fedmosaic (with answers=gate), ditto or perada"
        )
    received = next(name for name in names if name not in local)
    try:
        share = {"L": 0.0, "M": 1.0}[text] if text in ("L", "M") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SettingsError(
            f"--mix {text!r}: expected L (the local slot alone), M (the received mixture alone), or the weight of the "
            "received slot from 0 to 1, as in L,0.25,0.5,M"
        )
    return {local[0]: 1 - share, received: share}


def scores_with(runtime: ClientRuntime, mix: SlotWeights, *, rounds: int) -> tuple[float, float | None]:
    """Return Self and Others (None if there is none) of a finished run with other weights of the slots.

    Args:
        runtime: of the run.
        mix: slot -> weight.
        rounds: the run's last round.
    """
    for spec in runtime.assets.settings.scenario.clients:
        runtime.adapters.adapter(spec)  # made with its gate, whatever answers afterwards
    method = runtime.assets.method
    trained = method.answers_with
    method.answers_with = mix
    try:
        return self_and_others(runtime, rounds=rounds)
    finally:
        method.answers_with = trained


def averaged_over(settings: RunSettings, last: int) -> RunSettings:
    """Return a finished run's settings, by which each client answers with the mean of its last weights.

    Args:
        settings: of the run.
        last: over how many of the last rounds that a client trained in.

    Raises:
        SettingsError: the run has not kept the weights of so many rounds.
    """
    kept = max(_KEPT_ROUNDS, settings.training.averaged_rounds)
    if not 1 <= last <= kept:
        raise SettingsError(
            f"--average {last}: the run has kept the weights of each client's last {kept} rounds; expected 1 to {kept}"
            f", or a run that was made with --set training.averaged_rounds={last}"
        )
    return varied(settings, [f"training.averaged_rounds={last}"])
