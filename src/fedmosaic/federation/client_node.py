"""The client side of one process: a participant that answers the server's messages from the state on its disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from fedmosaic import events
from fedmosaic.data.sample import Sample
from fedmosaic.federation import examples
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.run_folder import When
from fedmosaic.federation.runtime import ClientRuntime
from fedmosaic.models import BaseModel
from fedmosaic.training import Client, Meter


class ClientNode(Participant):
    """One client of a run, with its files.

    A round is trained from the stored state of the last round in which the client trained before it, so a repeated
    message gives the same reply.

    Args:
        runtime: what the run's clients share.
        client_id: the client's id in the scenario.
        own_tasks_only: whether the client is never scored on the others' tasks, of which it has no samples.

    Attributes:
        runtime: see above.
        store: the client's private files.
        own_tasks_only: see above.
    """

    def __init__(self, runtime: ClientRuntime, client_id: int, *, own_tasks_only: bool = False) -> None:
        super().__init__(runtime.assets, runtime.adapters, client_id)
        self.runtime = runtime
        self.own_tasks_only = own_tasks_only
        self._scored = list(self.spec.tasks) if own_tasks_only else runtime.assets.settings.scenario.task_names
        self.store = runtime.states.store(client_id)

    def train_round(
        self, round_: int, download: Mapping[str, Tensor], *, known: int = 0
    ) -> tuple[Mapping[str, Tensor], Meter]:
        """Train one round and keep the state that it ends in.

        Args:
            round_: from 1.
            download: what the server sent.
            known: the last round before it in which the server knows this client to have trained; 0: none, or not said.

        Returns:
            The upload's tensors, and what was done.

        Raises:
            DataError: data or models have changed since the run began.
            RunError: the client's state is missing or damaged.
        """
        self.runtime.inputs.keep()
        before = self.runtime.states.after(self.spec, round_ - 1, known=known)
        client = self.client(round_, before)
        client.secret = self.store.secret
        done = self.train(client, download)
        self.runtime.adapters.keep_alignment()
        self.store.save(round_, replace(done.state, missed=before.missed))
        meter = done.meter
        told = {"loss": meter.loss, "seconds": round(meter.seconds, 3), "tokens": meter.tokens}
        events.emit("trained", client=self.spec.id, round=round_, **told)
        return done.upload.tensors, done.meter

    def evaluate(self, round_: int, *, others: bool, count: int, known: int = 0) -> dict[str, tuple[float, ...]]:
        """Score the model that the client has after a round; round 0 is the base model (with the LoRA it brings).

        Args:
            round_: from 0.
            others: whether all other clients' tasks are scored, too.
            count: test samples per task; 0 for all.
            known: as for :meth:`client_after`.

        Returns:
            Each sample's score, by task.

        Raises:
            RunError: the client's state is missing or damaged.
        """
        tasks = self._scored if others else list(self.spec.tasks)
        if round_ == 0 and not self.spec.start:
            of_base = self.runtime.evaluator.base_scores(self.spec, tasks, count)
            return {task: each.scores for task, each in of_base.items()}
        last = round_ == self.runtime.assets.settings.rounds
        return self.score(round_, tasks, count=count, known=known, asking=last)

    def score(
        self, round_: int, tasks: Sequence[str], *, count: int, known: int = 0, asking: bool = False
    ) -> dict[str, tuple[float, ...]]:
        """Score the model that the client has after a round on any tasks.

        Args:
            round_: from 0.
            tasks: their names.
            count: test samples per task; 0 for all.
            known: as for :meth:`client_after`.
            asking: whether a handful of its own questions is kept with the answers to them.

        Returns:
            Each sample's score, by task.

        Raises:
            RunError: the client's state is missing or damaged.
        """
        client = self.client_after(round_, known=known)
        with self.runtime.states.model_of(client, round_, known=known) as model:
            found = self.runtime.evaluator.scores(model, tasks, count)
            answered: dict[When, list[str]] = {"final": self._example_answers(model)} if asking else {}
        if asking and not self.spec.start:  # else it begins with a LoRA of its own
            with client.adapter.disabled():
                answered["start"] = self._example_answers(client.base)
        if asking:
            self._keep_examples(answered)
        return {task: each.scores for task, each in found.items()}

    def exchange(self, round_: int, download: Mapping[str, Tensor], *, known: int = 0) -> dict[str, tuple[float, ...]]:
        """Take up the download after the last round without training, keep the state, and score what answers then.

        Args:
            round_: the last one.
            download: what the server sent.
            known: as for :meth:`client_after`.

        Returns:
            The score of each sample of all clients' tasks, by task.

        Raises:
            RunError: the client's state is missing or damaged.
        """
        method = self.runtime.assets.method
        client = self.client_after(round_, known=known)
        method.receive_final(client, download)
        self.store.save_exchanged(round_, replace(client.state(), moments={}))
        with method.answering(client) as model:
            count = self.runtime.assets.settings.evaluation.final_samples_per_task
            found = self.runtime.evaluator.scores(model, self._scored, count)
            answered = self._example_answers(model)
        self._keep_examples({"exchanged": answered})
        return {task: each.scores for task, each in found.items()}

    def client_after(self, round_: int, *, known: int = 0) -> Client:
        """Return the client with the model that it answers with after a round.

        Args:
            round_: from 0.
            known: the last round up to it in which the server knows this client to have trained; 0: none, or not said.

        Raises:
            RunError: the client's state is missing or damaged.
        """
        return self.client(round_, self.runtime.states.answering(self.spec, round_, known=known))

    @cached_property
    def _examples(self) -> list[tuple[str, Sample]]:
        assets = self.runtime.assets
        split = assets.settings.evaluation.split
        return examples.chosen({task: assets.benchmark.task(task).split(split) for task in self.spec.tasks})

    def _example_answers(self, model: BaseModel) -> list[str]:
        return examples.answers(model, self._examples, max_tokens=self.runtime.assets.settings.evaluation.answer_tokens)

    def _keep_examples(self, answered: Mapping[When, Sequence[str]]) -> None:
        examples.keep(self.store.folder, self._examples, answered, load=self.runtime.assets.images.load)
