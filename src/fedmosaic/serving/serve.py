"""A finished run's client, put together with the endpoint and its page."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fedmosaic.api.finished import Run
from fedmosaic.api.moments import moments
from fedmosaic.federation import RunFolder
from fedmosaic.federation.examples import read
from fedmosaic.report.trying import Limits, trying_page
from fedmosaic.serving.models import ServedModels
from fedmosaic.serving.request import DEFAULT_TOKENS, MOST_TOKENS
from fedmosaic.serving.server import AnswerServer


def open_server(
    run: Run, client_id: int, *, only: Collection[str] = (), examples: bool = True, **listening: Any
) -> AnswerServer:
    """Return the server of a client's models; ``serve_forever`` serves them.

    Args:
        run: a finished run.
        client_id: of the scenario.
        only: names of the moments that are served; default: all.
        examples: whether a few of the client's own test questions are on the page.
        **listening: host, port and token of :class:`~fedmosaic.serving.server.AnswerServer`.

    Raises:
        SettingsError: the run is not done, has no such client or moment, or the server cannot listen.
        FedMosaicError: the client's model cannot be loaded.
    """
    chosen = [moment for moment in moments(run, client_id) if not only or moment.name in only]
    made = int((run.path / "results.json").stat().st_mtime)
    models = ServedModels(client_id, chosen, made=made)
    server = AnswerServer(models, "", **listening)  # a port in use is told before a model is loaded
    try:
        models.load()
        kept = read(RunFolder(run.path).client_folder / f"client-{client_id:03d}") if examples else []
        server.page = trying_page(
            run.settings.scenario.client(client_id),
            {name: moment.title for name, moment in models.by_name.items()},
            method=run.settings.method,
            limits=Limits(DEFAULT_TOKENS, MOST_TOKENS),
            examples=kept,
            token=bool(server.token),
        )
    except BaseException:
        server.server_close()
        raise
    return server
