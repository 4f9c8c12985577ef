"""What a client takes away from a run: its model after the last round, without the run's data."""

from __future__ import annotations

from dataclasses import dataclass

from fedmosaic.adapters import Adapter
from fedmosaic.config import ClientSpec
from fedmosaic.errors import ModelError
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models import BaseModel
from fedmosaic.training import load_adapter_state


@dataclass(frozen=True)
class FinalModel:
    """A client's own model.

    Attributes:
        spec: who the client is.
        base: its base model, with the adapter attached.
        adapter: in the state and the mixture that the client answers with.
    """

    spec: ClientSpec
    base: BaseModel
    adapter: Adapter


def final_model(machine: Runtime, client_id: int) -> FinalModel:
    """Return the model that a client has after the last round.

    Args:
        machine: of a finished run; given ``images``, the run's benchmark is not opened.
        client_id: the client's id in the scenario.

    Raises:
        SettingsError: there is no such client.
        RunError: its state is missing or damaged.
        DataError: its base model has changed since the run.
        ModelError: the method's answers are no mixture of adapters.
    """
    method = machine.method
    if not method.answers_by_mixing:
        raise ModelError(
            f"{method.title} answers with more than one pass through its adapters, so no single adapter or merged "
            "model can answer in its place; export a client of another method, or of a run with other settings of "
            "this one (docs/export.md)"
        )
    spec = machine.settings.scenario.client(client_id)
    machine.inputs.check(models=[spec.model])
    base, adapter = machine.pool.model(spec.model), machine.adapter(spec)
    load_adapter_state(adapter, machine.answering_state(spec, machine.settings.rounds))
    adapter.mix(method.answers_with)
    return FinalModel(spec, base, adapter)
