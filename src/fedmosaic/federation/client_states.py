"""The states of a run's clients, in the folder that holds them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from fedmosaic.config import ClientSpec
from fedmosaic.errors import RunError, SettingsError
from fedmosaic.federation import participation
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.client_store import ClientStore
from fedmosaic.models import BaseModel
from fedmosaic.training import Client, ClientState, averaged


class ClientStates:
    """Finds the state that a client is in after a round.

    Args:
        folder: of all clients' private files.
        assets: of the run; its settings say who trains when.
        start: gives the state of a client that has not trained yet.
        after_exchange: whether clients answer for the last round as the last exchange has left them.
        unexchanged: ids of the clients that were missing in the last exchange.

    Attributes:
        left_out: ids of the clients that have no answer of the kind asked for, as they missed the last exchange.
    """

    def __init__(
        self,
        folder: Path,
        assets: Assets,
        start: Callable[[ClientSpec], ClientState],
        *,
        after_exchange: bool = False,
        unexchanged: Collection[int] = (),
    ) -> None:
        self._folder = folder
        self._assets = assets
        self._start = start
        self._after_exchange = after_exchange
        self._unexchanged = unexchanged
        self.left_out = frozenset(unexchanged if after_exchange else ())
        self._stores: dict[int, ClientStore] = {}

    @property
    def exchanged(self) -> ClientStates:
        """The same clients, who answer for the last round as the last exchange has left them."""
        missing = self._unexchanged
        return ClientStates(self._folder, self._assets, self._start, after_exchange=True, unexchanged=missing)

    def store(self, client_id: int) -> ClientStore:
        """Return the private files of one client.

        Args:
            client_id: its id in the scenario.
        """
        if client_id not in self._stores:
            keep = max(3, self._window + 1)  # the server may be a round behind, and go back by one more
            self._stores[client_id] = ClientStore(self._folder / f"client-{client_id:03d}", keep=keep)
        return self._stores[client_id]

    def after(self, spec: ClientSpec, round_: int, *, known: int = 0) -> ClientState:
        """Return the state in which the last round up to this one that it trained in has left a client.

        The common start if it has not trained yet. Where rounds go on without clients that are missing, the client
        may have missed some that it was to train in; those up to ``round_`` are noted in the state.

        Args:
            spec: who the client is.
            round_: from 0.
            known: a round in which the server knows it to have trained: older states are not its last one.

        Raises:
            RunError: the client trained, but its state is not there.
        """
        trained = self._trained(spec, round_, 1, known)
        last = trained[-1] if trained else 0
        state = self.store(spec.id).load(last) if trained else self._start(spec)
        missed = [each for each in self._assets.rounds_trained(spec, until=round_) if each > last]
        return replace(state, missed=(*state.missed, *missed)) if missed else state

    def answering(self, spec: ClientSpec, round_: int, *, known: int = 0) -> ClientState:
        """Return the state that a client answers with: :meth:`after`, averaged over ``training.averaged_rounds``.

        Or the one after the last exchange, where that is asked for and has changed anything; a client that left before
        answers with what it has.

        Args:
            spec: who the client is.
            round_: from 0.
            known: as for :meth:`after`.

        Raises:
            RunError: the client trained, but a state is not there.
            SettingsError: it missed the last exchange, after which it is asked for.
        """
        if self._answers_exchanged(spec, round_):
            if spec.id in self.left_out:
                raise SettingsError(
                    f"--after-exchange: client {spec.id} was missing in the last exchange of this run, so it has no "
                    "state from then; leave it out to have the client as training has left it, or name another client"
                )
            return self.store(spec.id).load_exchanged(round_)
        trained = self._trained(spec, round_, self._window, known)
        return averaged([self.store(spec.id).load(each) for each in trained]) if trained else self._start(spec)

    def model_of(self, client: Client, round_: int, *, known: int = 0) -> AbstractContextManager[BaseModel]:
        """Yield what answers for a client after a round: as at the start, until it has trained or received something.

        Args:
            client: in the state that :meth:`answering` gives.
            round_: from 0.
            known: as for :meth:`after`.
        """
        method, spec = self._assets.method, client.spec
        begun = self._answers_exchanged(spec, round_) or self._trained(spec, round_, 1, known)
        return (method.answering if begun else method.answering_at_start)(client)

    def lacks(self, spec: ClientSpec, round_: int, *, known: int = 0) -> bool:
        """Return whether a state is missing or damaged that a client needs to go on after a round.

        Args:
            spec: who the client is.
            round_: from 0.
            known: as for :meth:`after`.
        """
        try:
            self.answering(spec, round_, known=known)
        except RunError:
            return True
        return False

    def _answers_exchanged(self, spec: ClientSpec, round_: int) -> bool:
        settings, changes = self._assets.settings, self._assets.method.exchange_changes_answers
        last = round_ == settings.rounds
        return self._after_exchange and changes and last and spec.id in participation.present(settings, round_)

    @property
    def _window(self) -> int:
        return self._assets.settings.training.averaged_rounds

    def _trained(self, spec: ClientSpec, round_: int, count: int, known: int) -> list[int]:
        """The last rounds in which a client trained: by the schedule, or by what it keeps if it may have missed some.

        A state that the server has not heard of, because the answer was late or lost, is the client's last one all the
        same. One that the server has heard of and that is not there is asked for, so that its loss is told.
        """
        if not self._assets.settings.participation.min_clients:
            return self._assets.rounds_trained(spec, until=round_)[-count:]
        kept = [each for each in self.store(spec.id).rounds if each <= round_][-count:]
        return kept if kept and kept[-1] >= known else [known] if known else []
