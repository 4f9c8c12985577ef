"""What the clients of a finished run answer after the last exchange, in a line."""

from __future__ import annotations

from fedmosaic.registry import BASE_MODELS, METHODS
from fedmosaic.report.record import RunRecord
from fedmosaic.report.rows import mean_row
from fedmosaic.report.text import flops, percent, size

_ACROSS = ("architectures", "base models")
"""A method that says so of its clients (``heterogeneity``) exchanges between different base models."""


def line(record: RunRecord) -> str:
    """Return Self and Others after the last exchange, or that it changes nothing; empty if it was not made.

    Args:
        record: the run.
    """
    found = record.results.exchanged if record.results else None
    if found is None:
        return ""
    if not found.changed:
        return "after the last exchange: unchanged, no answer depends on what it would bring"
    mean = mean_row(record)
    parts = (("Self", mean.self_.exchanged), ("Others", mean.others.exchanged))
    said = ", ".join(f"{name} {percent(value)} %" for name, value in parts if value is not None)
    return f"after the last exchange, without training on it: {said or 'no means, since clients were missing'}"


def costs(record: RunRecord) -> str:
    """Return what the last exchange has cost, in a few words; empty if nothing was exchanged.

    Args:
        record: the run.
    """
    found = record.results.exchanged if record.results else None
    if found is None or not found.changed:
        return ""
    spent = found.costs
    server = f", {flops(spent.flops)} on the server" if spent.flops else ""
    return f"{size(spent.total_bytes_down)} down in all{server}"


def nothing(record: RunRecord) -> str:
    """Return why no client has received anything from another, in a few words; empty if some have, or may have.

    Args:
        record: the run.
    """
    clients = record.settings.scenario.clients
    if len(clients) < 2:
        return "One client has nobody to exchange with"
    if record.settings.method not in METHODS:
        return ""
    kind = METHODS.load(record.settings.method)
    if not kind.__module__.startswith("fedmosaic."):
        return ""  # others need not say what they exchange
    if not any(slot.communicated for slot in kind.slots) and record.costs and not record.costs.bytes_up:
        return "Nothing was exchanged: each client trains alone"
    bases = {client.model for client in clients}
    across = any(word in kind.heterogeneity for word in _ACROSS) or record.settings.method_settings.get("across")
    unlike = len(bases) == len(clients) and all(base in BASE_MODELS for base in bases)  # folders may hold copies of one
    if unlike and not across:
        return (
            f"Nothing was exchanged: {record.settings.method} averages between clients of equal base models, "
            "and no two clients have the same"
        )
    return ""
