"""The states of a run's clients, in the folder that holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedmosaic.config import ClientSpec
from fedmosaic.errors import RunError
from fedmosaic.federation import participation
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.client_store import ClientStore
from fedmosaic.training import ClientState, averaged


class ClientStates:
    """Finds the state that a client is in after a round.

    Args:
        folder: of all clients' private files.
        assets: of the run; its settings say who trains when.
        start: gives the state of a client that has not trained yet.
        after_exchange: whether clients answer for the last round as the last exchange has left them.
    """

    def __init__(
        self,
        folder: Path,
        assets: Assets,
        start: Callable[[ClientSpec], ClientState],
        *,
        after_exchange: bool = False,
    ) -> None:
        self._folder = folder
        self._assets = assets
        self._start = start
        self._after_exchange = after_exchange
        self._stores: dict[int, ClientStore] = {}

    def store(self, client_id: int) -> ClientStore:
        """Return the private files of one client.

        Args:
            client_id: its id in the scenario.
        """
        if client_id not in self._stores:
            keep = max(3, self._window + 1)  # the server may be a round behind, and go back by one more
            self._stores[client_id] = ClientStore(self._folder / f"client-{client_id:03d}", keep=keep)
        return self._stores[client_id]

    def after(self, spec: ClientSpec, round_: int) -> ClientState:
        """Return the state in which the last round up to this one that it trained in has left a client.

        The common start if it has not trained yet.

        Args:
            spec: who the client is.
            round_: from 0.

        Raises:
            RunError: the client trained, but its state is not there.
        """
        return self._last(spec, round_, 1)[-1]

    def answering(self, spec: ClientSpec, round_: int) -> ClientState:
        """Return the state that a client answers with: :meth:`after`, averaged over ``training.averaged_rounds``.

        Or the one after the last exchange, where that is asked for and has changed anything; a client that left before
        answers with what it has.

        Args:
            spec: who the client is.
            round_: from 0.

        Raises:
            RunError: the client trained, but a state is not there.
        """
        if self._after_exchange and self._assets.method.exchange_changes_answers:
            rounds = self._assets.settings.rounds
            if round_ == rounds and spec.id in participation.present(self._assets.settings, rounds):
                return self.store(spec.id).load_exchanged(rounds)
        return averaged(self._last(spec, round_, self._window))

    def lacks(self, spec: ClientSpec, round_: int) -> bool:
        """Return whether a state is missing or damaged that a client needs to go on after a round.

        Args:
            spec: who the client is.
            round_: from 0.
        """
        try:
            self.answering(spec, round_)
        except RunError:
            return True
        return False

    @property
    def _window(self) -> int:
        return self._assets.settings.training.averaged_rounds

    def _last(self, spec: ClientSpec, round_: int, count: int) -> list[ClientState]:
        trained = self._assets.rounds_trained(spec, until=round_)[-count:]
        return [self.store(spec.id).load(each) for each in trained] or [self._start(spec)]
