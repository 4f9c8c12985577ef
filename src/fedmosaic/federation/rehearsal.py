"""A run in memory, for its costs: who trains when, and what is uploaded and sent, are those of the real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.federation import participation
from fedmosaic.federation.machine import Machine
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.workbench import Workbench
from fedmosaic.methods.base import Aggregation, Uploads
from fedmosaic.training import StillPool


@dataclass(frozen=True)
class RoundCost:
    """What all clients and the server spend on a round."""

    flops: float
    seconds: float


def still(settings: RunSettings) -> Machine:
    """Return a machine whose base models compute nothing: it counts FLOPs as a real one does, in a fraction of its time."""
    return Machine(settings, Path("unused"), kind=StillPool)


def rehearse(machine: Machine) -> Iterator[RoundCost]:
    """Yield what each round of a machine's run costs; nothing is measured, and nothing is written."""
    settings, method = machine.settings, machine.method
    workbench = Workbench(settings, machine)
    clients = {spec.id: Participant(machine, spec.id) for spec in settings.scenario.clients}
    states: dict[int, dict[str, Tensor]] = {}
    uploads, answer = Uploads([]), Aggregation({})
    for round_, training in machine.schedule.items():
        before = workbench.spent.flops, workbench.spent.seconds
        uploads = uploads.since(participation.oldest_that_counts(settings, round_))
        state = answer.state
        answer = workbench.aggregate(uploads.towards(training), state, round_) if uploads else Aggregation({})
        done = []
        for client in training:
            me = clients[client]
            if uploads and client not in uploads:
                answer.downloads[client] = method.welcome(
                    me.base.architecture, method.upload_shapes(me.adapter), uploads
                )
            done.append(me.dry_round(round_, answer.downloads.get(client), states.get(client)))
            states[client] = done[-1].state
        uploads = uploads.updated(Uploads([each.upload for each in done]))
        yield RoundCost(
            workbench.spent.flops - before[0] + sum(each.meter.flops for each in done),
            workbench.spent.seconds - before[1] + sum(each.meter.seconds for each in done),
        )
