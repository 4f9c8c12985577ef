"""What a client takes away from a run: its model after the last round, without the run's data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fedmosaic.adapters import Adapter
from fedmosaic.config import ClientSpec
from fedmosaic.errors import ModelError
from fedmosaic.federation.client_states import ClientStates
from fedmosaic.federation.participant import client_of
from fedmosaic.federation.run_folder import When
from fedmosaic.federation.runtime import ClientRuntime
from fedmosaic.models import BaseModel
from fedmosaic.training import Client


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


def final_model(runtime: ClientRuntime, client_id: int) -> FinalModel:
    """Return the model that a client has after the last round.

    Args:
        runtime: of a finished run; if its assets are given ``images``, the run's benchmark is not opened.
        client_id: the client's id in the scenario.

    Raises:
        SettingsError: there is no such client, or it missed the last exchange that is asked for.
        RunError: its state is missing or damaged.
        DataError: its base model has changed since the run.
        ModelError: the method's answers are no mixture of adapters.
    """
    assets, method = runtime.assets, runtime.assets.method
    if not method.answers_by_mixing:
        raise ModelError(
            f"{method.title} answers with more than one pass through its adapters, so no single adapter or merged "
            "model can answer in its place; export a client of another method, or of a run with other settings of "
            "this one (docs/export.md)"
        )
    spec = assets.settings.scenario.client(client_id)
    runtime.inputs.check(models=[spec.model])
    base, adapter = assets.pool.model(spec.model), runtime.adapters.adapter(spec)
    runtime.states.answering(spec, assets.settings.rounds).load_into(adapter)
    adapter.mix(method.answers_with)
    return FinalModel(spec, base, adapter)


@contextmanager
def answering(runtime: ClientRuntime, client_id: int, when: When | None = None) -> Iterator[BaseModel]:
    """Yield what answers for a client at some moment of the run, whatever its method makes of its adapters.

    At the start it is the base model, with the LoRA that the client brings, as it is scored before the first round.

    Args:
        runtime: as for :func:`final_model`.
        client_id: the client's id in the scenario.
        when: the moment; default: at the end, as the runtime was opened.

    Raises:
        SettingsError: there is no such client, or it missed the last exchange that is asked for.
        RunError: its state is missing or damaged.
        DataError: its base model has changed since the run.
    """
    client = final_client(runtime, client_id, when)
    if when == "start" and not client.spec.start:
        with client.adapter.disabled():
            yield client.base
    else:
        states, round_ = _moment(runtime, when)
        with states.model_of(client, round_) as model:
            yield model


def final_client(runtime: ClientRuntime, client_id: int, when: When | None = None) -> Client:
    """Return a client as it is after the last round, with its proxy model where the method has one.

    Args:
        runtime: as for :func:`final_model`.
        client_id: the client's id in the scenario.
        when: another moment, as for :func:`answering`.

    Raises:
        SettingsError: there is no such client, or it missed the last exchange that is asked for.
        RunError: its state is missing or damaged.
        DataError: its base model has changed since the run.
    """
    assets = runtime.assets
    spec, proxy = assets.settings.scenario.client(client_id), assets.method.proxy
    runtime.inputs.check(models=[spec.model, *([] if proxy is None else [proxy.model])])
    states, round_ = _moment(runtime, when)
    return client_of(assets, runtime.adapters, spec, round_, states.answering(spec, round_))


def _moment(runtime: ClientRuntime, when: When | None) -> tuple[ClientStates, int]:
    """Return where a client's state at some moment of the run is found, and after which round."""
    states = runtime.states.exchanged if when == "exchanged" else runtime.states
    return states, 0 if when == "start" else runtime.assets.settings.rounds
