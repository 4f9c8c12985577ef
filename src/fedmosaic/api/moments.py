"""A client's models at all moments that a finished run has kept, to be set side by side."""

from __future__ import annotations

from dataclasses import dataclass

from fedmosaic.api.finished import ClientModel, Run
from fedmosaic.api.opening import finished_results, unexchanged


@dataclass(frozen=True)
class Moment:
    """One of them.

    Attributes:
        name: ``start``, ``local-only``, ``final`` or ``exchanged``.
        title: in words.
        model: as it was then.
    """

    name: str
    title: str
    model: ClientModel


def moments(run: Run, client_id: int) -> list[Moment]:
    """Return a client's models, earliest first: at least the one that it began with and the one that it ended with.

    Beside these there is one of local-only training where the run has its reference in its folder, and one of after the
    last exchange where that has changed anything and the client took part. All but the local-only one share the base
    model that is loaded.

    Args:
        run: a finished run.
        client_id: of the scenario.

    Raises:
        SettingsError: the run is not done, or there is no such client.
        RunError: its results are damaged.
    """
    method, results = run.settings.method, finished_results(run.path)
    found = [Moment("start", "before", run.client(client_id, before=True))]
    if (alone := run.reference) is not None and alone.done and client_id in [each.spec.id for each in alone.clients]:
        found.append(Moment("local-only", "after training alone", alone.client(client_id)))
    found.append(Moment("final", f"after {method}", run.client(client_id)))
    changed = results.exchanged is not None and results.exchanged.changed
    if changed and client_id not in unexchanged(results):
        exchanged = run.client(client_id, after_exchange=True)
        found.append(Moment("exchanged", f"after {method} and its last exchange", exchanged))
    return found
