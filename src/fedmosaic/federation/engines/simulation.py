"""Flower's simulation: the clients take turns in worker processes of Ray on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from flwr.app import Context, Error, Message, UserConfigValue
from flwr.clientapp import ClientApp

from fedmosaic.config import RunSettings
from fedmosaic.federation import flower, server_app
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.engines.in_process import local_nodes, local_run_config
from fedmosaic.federation.grid import LocalGrid, announce_training, copied_context
from fedmosaic.federation.run_folder import RunFolder


class Simulation:
    """As many clients at once as the machine has CPUs for, each in one of Flower's Ray actors."""

    name = "simulation"

    def run(self, settings: RunSettings, folder: RunFolder, *, callbacks: Sequence[Callback] = ()) -> None:
        """Run all rounds that the folder does not have yet.

        Args:
            settings: of the run.
            folder: of the run.
            callbacks: hear what happens while it does.

        Raises:
            SettingsError: Ray is not installed.
            RunError: a client failed or answered wrongly.
        """
        clients = len(settings.scenario.clients)
        workers = max(1, min(clients, (os.cpu_count() or 1) // settings.threads))
        with (
            folder.locked(),
            flower.ray_workers(_client_app, workers=workers, threads=settings.threads) as backend,
            ThreadPoolExecutor(workers) as executor,
        ):
            grid = RayGrid(
                backend,
                executor,
                node_configs=local_nodes(settings, folder),
                run_config=local_run_config(settings, folder),
            )
            server_app.serve(grid, settings, folder, callbacks)


class RayGrid(LocalGrid):
    """Hands each message to a worker process and goes on; replies are there when they are there.

    Args:
        backend: Flower's Ray backend.
        executor: with a thread for each worker.
        node_configs: one table per node.
        run_config: the run's settings, as every client's context shows them.
    """

    def __init__(
        self,
        backend: Any,
        executor: ThreadPoolExecutor,
        *,
        node_configs: Iterable[Mapping[str, UserConfigValue]],
        run_config: Mapping[str, UserConfigValue],
    ) -> None:
        super().__init__(node_configs=node_configs, run_config=run_config)
        self._backend = backend
        self._executor = executor

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return, once, the replies that are there, and tell who has trained.

        Args:
            message_ids: as :meth:`push_messages` returned them.
        """
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            announce_training(reply)
        return replies

    def _answer(self, message: Message, context: Context) -> Future[Message]:
        return self._executor.submit(self._work, message, context)

    def _work(self, message: Message, context: Context) -> Message:
        try:
            reply, after = self._backend.process_message(flower.copied(message), copied_context(context))
        except Exception as error:
            return Message(Error(flower.CLIENT_RAISED, _reason(error)), reply_to=message)
        context.state = after.state
        return flower.copied(reply)


def _client_app() -> ClientApp:
    """Return the app, in a worker."""
    from fedmosaic.federation import client_app  # noqa: PLC0415 - this function is sent to the workers by name

    return client_app.app


def _reason(error: BaseException) -> str:
    """All is on this machine: the reason may name paths."""
    if flower.worker_died(error):
        return "its worker process died again and again; if memory ran out, use fewer threads or smaller models"
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
