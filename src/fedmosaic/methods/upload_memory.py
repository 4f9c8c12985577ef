"""What clients uploaded when they last learned something else: who starts a skill receives from who learned it earlier.

Of every client the server keeps the last upload, and the mean m of the releases since its task began. A release is what
a round has added to the running sketch: r_t = (s_t - (1 - a) s_{t-1}) / a. When r_t is unlike m (their cosine is below
a threshold) the task has changed, and the last upload before is kept with m as its sketch. It replaces the one that the
same client made when it last learned the like.

Kept uploads are peers like those of the round, for all clients, their own ones among them. They are bounded in number
and bytes; the oldest go first. Those of clients whose uploads no longer count go at once. Relevance then compares means
of releases of single tasks, m, instead of running sketches, in which the former task fades only slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import is_slot_tensor
from fedmosaic.errors import SettingsError
from fedmosaic.methods.aggregators.mean import Mean
from fedmosaic.methods.base import Aggregation, MethodSettings, ServerState
from fedmosaic.methods.uploads import Tensors, Upload, Uploads
from fedmosaic.relevance.weights import common_direction, cosine_similarity, unit_rows

_FIRST_ID = 2**40  # of kept uploads; no client has it, and they come after all clients
_PREFIX = "memory."


@dataclass(frozen=True, kw_only=True)
class MemorySettings(MethodSettings):
    """Of a method whose server may keep uploads of earlier tasks."""

    remembered: Annotated[int, Field(ge=0)] = 0
    """How many uploads that clients made when they learned something else are kept on the server; 0: none."""
    remembered_megabytes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 256.0
    """The most that they take, the last upload of every client included; these are kept for as many clients as fit
    into half of it."""
    changed_below: Annotated[float, Field(gt=-1, lt=1)] = 0.1
    """A client whose new sketch has a smaller cosine with those since its task began learns something else."""

    def check_memory(self, *, sketches: bool, rule: str = Mean.name) -> None:
        """Refuse a memory without anything to tell tasks by, or beside a rule that counts uploads by heads.

        Args:
            sketches: whether clients upload sketches.
            rule: ``aggregation.rule``.

        Raises:
            SettingsError: they do not, or the rule is not ``mean``.
        """
        if self.remembered and not sketches:
            raise SettingsError(
                f"method.remembered={self.remembered}: tasks are told by sketches; set method.relevance, too"
            )
        if self.remembered and rule != Mean.name:
            raise SettingsError(
                f"method.remembered={self.remembered}: one client may fill the memory, whose uploads "
                f"aggregation.rule={rule} would count as those of many; set method.remembered=0, or "
                f"aggregation.rule={Mean.name}"
            )


def is_kept(client: int) -> bool:
    """Return whether an id among uploads is that of a kept one, and not a client's.

    Args:
        client: the id.
    """
    return client >= _FIRST_ID


@dataclass(frozen=True)
class Task:
    """One task of one client, as its uploads have told of it.

    Attributes:
        client, round: of the last upload made for it.
        releases: how many there were.
        over: whether the client has gone on to another one.
        sketch: (k,) mean of the releases.
        running: (k,) the running sketch that was uploaded last.
        tensors: the adapter that was uploaded last.
    """

    client: int
    round: int
    releases: int
    over: bool
    sketch: Tensor
    running: Tensor
    tensors: Tensors


class UploadMemory:
    """The tasks that a server knows of.

    Args:
        settings: how many, and how a change is told.
        ema: a, of the running sketches.
        centred: whether only what sets the clients' sketches apart counts when a change is looked for.
        keeps: which of the uploaded tensors are kept, by name.
        tasks: of earlier rounds.
    """

    def __init__(
        self,
        settings: MemorySettings,
        *,
        ema: float,
        centred: bool = False,
        keeps: Callable[[str], bool] = is_slot_tensor,
        tasks: Iterable[Task] = (),
    ) -> None:
        self.settings = settings
        self.ema = ema
        self.centred = centred
        self.keeps = keeps
        self.tasks = list(tasks)

    @property
    def over(self) -> list[Task]:
        """The tasks whose uploads count beside those of the round."""
        return [task for task in self.tasks if task.over]

    def aggregated(
        self, uploads: Uploads, state: ServerState, aggregate: Callable[[Uploads, ServerState], Aggregation]
    ) -> Aggregation:
        """Return a method's aggregation of a round's uploads and the kept ones, which are updated in its state.

        Args:
            uploads: each client's last one.
            state: of the server.
            aggregate: the method's, as if all were clients'.
        """
        memory = self.with_state(state.tensors).after(uploads)
        made, count = aggregate(memory.beside(uploads), state), len(uploads)
        return replace(
            made,
            state={**made.state, **memory.as_state()},
            relevance=None if made.relevance is None else memory.by_owner(made.relevance, uploads),
            similarity=None if made.similarity is None else made.similarity[:count, :count],
        )

    def after(self, uploads: Uploads) -> UploadMemory:
        """Return the memory after another round.

        Args:
            uploads: each client's last one.
        """
        tasks = [task for task in self.tasks if task.client in uploads]
        now, over = {task.client: task for task in tasks if not task.over}, [task for task in tasks if task.over]
        known = [task.sketch for task in now.values()]
        common = common_direction(torch.stack(known)) if self.centred and known else torch.tensor(0.0)
        for client, upload in uploads.items():
            task = now.get(client)
            if task is None:
                now[client] = self._task(upload, upload.tensors["sketch"])
            elif upload.round > task.round:
                release = (upload.tensors["sketch"] - (1 - self.ema) * task.running) / self.ema
                if self._alike(release, task.sketch, common):
                    mean = task.sketch + (release - task.sketch) / (task.releases + 1)
                    now[client] = self._task(upload, mean, task.releases + 1)
                else:
                    over = [each for each in over if not self._repeats(each, task, common)]
                    over.append(replace(task, over=True))
                    now[client] = self._task(upload, release)
        kept = self._bounded(now, over)
        return self._of(kept)

    def beside(self, uploads: Uploads) -> Uploads:
        """Return the uploads of a round with the kept ones after them; those have no receivers.

        All have the sketches of their tasks alone, which do not lag behind as running ones do.

        Args:
            uploads: each client's last one.
        """
        sketches = {task.client: {"sketch": task.sketch} for task in self.tasks if not task.over}
        now = [
            replace(upload, tensors={**upload.tensors, **sketches.get(client, {})})
            for client, upload in uploads.items()
        ]
        kept = [
            Upload(
                _FIRST_ID + place,
                uploads[task.client].architecture,
                {**task.tensors, "sketch": task.sketch},
                round=task.round,
            )
            for place, task in enumerate(self.over)
        ]
        return Uploads([*now, *kept], uploads.receivers, uploads.rule)

    def by_owner(self, weights: Tensor, uploads: Uploads) -> Tensor:
        """Return weights between clients, a kept upload's counted as its client's.

        Args:
            weights: (N, N + M) of N clients, to all and the M kept uploads; or with more rows, which are left out.
            uploads: of the N clients.

        Returns:
            (N, N).
        """
        clients = list(uploads)
        owners = torch.tensor([clients.index(task.client) for task in self.over], dtype=torch.long)
        count = len(clients)
        return weights[:count, :count].clone().index_add_(1, owners, weights[:count, count:])

    def _task(self, upload: Upload, mean: Tensor, releases: int = 1) -> Task:
        adapter = {name: tensor for name, tensor in upload.tensors.items() if self.keeps(name)}
        return Task(upload.client, upload.round, releases, False, mean, upload.tensors["sketch"], adapter)

    def _alike(self, one: Tensor, other: Tensor, common: Tensor) -> bool:
        apart = unit_rows(torch.stack([one, other])) - common
        return bool(cosine_similarity(apart)[0, 1] >= self.settings.changed_below)

    def _repeats(self, kept: Task, task: Task, common: Tensor) -> bool:
        return kept.client == task.client and self._alike(kept.sketch, task.sketch, common)

    def _bounded(self, now: Mapping[int, Task], over: list[Task]) -> list[Task]:
        largest = max((_bytes(task) for task in (*now.values(), *over)), default=1)
        room = int(self.settings.remembered_megabytes * 2**20 / largest)
        watched = [now[client] for client in sorted(now)][: room // 2]
        kept = min(self.settings.remembered, room - len(watched))
        newest = sorted(over, key=lambda task: (task.round, task.client))[max(0, len(over) - kept) :]
        return watched + newest

    # ---- in the server's state -----------------------------------------------------------------------------------

    def as_state(self) -> dict[str, Tensor]:
        """Return it as tensors that :meth:`with_state` reads."""
        table = [[task.client, task.round, task.releases, int(task.over)] for task in self.tasks]
        state = {f"{_PREFIX}tasks": torch.tensor(table, dtype=torch.int64).view(-1, 4)}
        for place, task in enumerate(self.tasks):
            named = {"sketch": task.sketch, "running": task.running, **task.tensors}
            # copies: a checkpoint may not hold one tensor under two names
            state |= {f"{_PREFIX}{place}.{name}": tensor.clone() for name, tensor in named.items()}
        return state

    def with_state(self, state: Tensors) -> UploadMemory:
        """Return a memory of the same settings with the tasks of a server's state, if that holds any.

        Args:
            state: the server's tensors.
        """
        rows = state[f"{_PREFIX}tasks"].tolist() if f"{_PREFIX}tasks" in state else []
        parts: list[dict[str, Tensor]] = [{} for _ in rows]
        for key, tensor in state.items():
            place, _, name = key.removeprefix(_PREFIX).partition(".")
            if key.startswith(_PREFIX) and name:
                parts[int(place)][name] = tensor
        tasks = [
            Task(client, round_, releases, bool(over), part.pop("sketch"), part.pop("running"), part)
            for (client, round_, releases, over), part in zip(rows, parts, strict=True)
        ]
        return self._of(tasks)

    def _of(self, tasks: Iterable[Task]) -> UploadMemory:
        return UploadMemory(self.settings, ema=self.ema, centred=self.centred, keeps=self.keeps, tasks=tasks)


def _bytes(task: Task) -> int:
    return sum(tensor.nbytes for tensor in (task.sketch, task.running, *task.tensors.values()))
