"""A run as Python sees it, and the models that its clients end with."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from fedmosaic.api import adapting, evaluating, exporting, other_answers
from fedmosaic.api.answering import DEFAULT_TOKENS, check_length, pictures_of, telling
from fedmosaic.api.objects import Objects
from fedmosaic.api.opening import check_exchanged, open_finished
from fedmosaic.api.settings import overrides_of
from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.data.in_memory import InMemoryImages, Picture
from fedmosaic.errors import RunError, SettingsError
from fedmosaic.experiments.adaptation import STEPS, Adaptation
from fedmosaic.federation import ClientRuntime, RunFolder
from fedmosaic.federation.final_model import FinalModel, answering, final_model
from fedmosaic.federation.results import RunResults
from fedmosaic.federation.run_folder import When
from fedmosaic.models import BaseModel
from fedmosaic.models.generation import Said
from fedmosaic.report import write_report


class Run:
    """The run in a folder. Everything is read when it is asked for; models are loaded when one answers.

    Args:
        path: the folder.
        objects: what the run was given as objects.
        device: where its models compute when they answer, are scored or adapted; default: where they did, or what
            ``auto`` takes if that is not there.

    Attributes:
        path: the folder.
        device: see above; can be set, then the next answer loads its model there.
    """

    def __init__(self, path: Path, objects: Objects | None = None, *, device: str | None = None) -> None:
        self.path = path
        self.device = device
        self._objects = objects or Objects()
        self._opened: tuple[str | None, ClientRuntime] | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def settings(self) -> RunSettings:
        """What the run was started with."""
        return RunFolder(self.path).settings

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return RunFolder(self.path).results() is not None

    @property
    def results(self) -> RunResults:
        """What came out: ``results.self_.last``, ``results.others``, ``results.costs.flops`` ...

        Raises:
            RunError: the run is not done, or its results are damaged.
        """
        results = RunFolder(self.path).results()
        if results is None:
            raise RunError(f"the run in {self.path} is not done; finish it: fedmosaic.resume({str(self.path)!r})")
        return results

    @property
    def scores(self) -> dict[int, dict[str, list[float]]]:
        """The final score of every test sample, by client and task.

        Raises:
            RunError: the run is not done, or the file is damaged.
        """
        return RunFolder(self.path).scores()

    @property
    def reference(self) -> Run | None:
        """The run of another method beside, if there is one."""
        beside = self.path / "reference"
        return Run(beside, self._objects, device=self.device) if (beside / "settings.toml").is_file() else None

    def client(self, client_id: int, *, after_exchange: bool = False, before: bool = False) -> ClientModel:
        """Return a client's final model.

        Args:
            client_id: of the scenario.
            after_exchange: as the last exchange has left it, not as local training has.
            before: as it was before the first round.

        Raises:
            SettingsError: there is no such client, or both moments are asked for.
        """
        spec = self.settings.scenario.client(client_id)
        return ClientModel(self, spec, after_exchange=after_exchange, before=before)

    @property
    def clients(self) -> list[ClientModel]:
        """The final models of all clients."""
        return [ClientModel(self, spec) for spec in self.settings.scenario.clients]

    def report(self) -> Path:
        """Write ``report.html`` and return its path; the run need not be done."""
        return write_report(self.path)

    def evaluate(
        self, *, unseen: bool = False, generated: bool = False, after_exchange: bool = False
    ) -> evaluating.Evaluation:
        """Score all final models again; see :func:`fedmosaic.api.evaluating.evaluate`.

        Args:
            unseen: score the tasks that no client trained on; the outcome is added to ``results.json``.
            generated: score multiple choice by generated text, too, and compare.
            after_exchange: clients answer as the last exchange has left them, not as local training has.

        Returns:
            The scores, with intervals.
        """
        return evaluating.evaluate(
            self.path,
            unseen=unseen,
            generated=generated,
            after_exchange=after_exchange,
            device=self.device,
            objects=self._objects,
        )

    def other_answers(
        self, *, mix: Sequence[str | float] = (), average: int | None = None, after_exchange: bool = False
    ) -> other_answers.OtherAnswers:
        """Score all final models with other weights; see :func:`fedmosaic.api.other_answers.other_answers`.

        Args:
            mix: weights of the method's two slots: ``"L"``, ``"M"``, or the weight of the received one.
            average: answer with the mean of the weights after so many last rounds.
            after_exchange: mix the slots as the last exchange has left them, not as local training has.

        Returns:
            Self and Others, beside those of the run.
        """
        return other_answers.other_answers(
            self.path,
            mix=mix,
            average=average,
            after_exchange=after_exchange,
            device=self.device,
            objects=self._objects,
        )

    def adapt(
        self,
        task: str,
        *,
        seeds: int = 3,
        steps: Sequence[int] = STEPS,
        training: Mapping[str, Any] | None = None,
    ) -> Adaptation:
        """Fine-tune the run's merged adapters on one more task.

        Args:
            task: e.g. an unseen one.
            seeds: orders of the training samples to average over.
            steps: after how many steps to measure; 0 is the start.
            training: other settings of the training than the run's.

        Returns:
            Mean test scores after each number of steps, from the merged adapters and from untrained ones.
        """
        return self.adapt_each([task], seeds=seeds, steps=steps, training=training)[task]

    def adapt_each(
        self,
        tasks: Sequence[str],
        *,
        seeds: int = 3,
        steps: Sequence[int] = STEPS,
        training: Mapping[str, Any] | None = None,
    ) -> dict[str, Adaptation]:
        """Fine-tune the run's merged adapters on each of some tasks by itself.

        See :func:`fedmosaic.api.adapting.adapt`.

        Args:
            tasks: e.g. unseen ones.
            seeds: orders of the training samples to average over.
            steps: after how many steps to measure; 0 is the start.
            training: other settings of the training than the run's.

        Returns:
            By task: mean test scores after each number of steps.
        """
        overrides = overrides_of(None, training=training)
        return adapting.adapt(
            self.path,
            tasks,
            seeds=seeds,
            steps=steps,
            overrides=overrides,
            device=self.device,
            objects=self._objects,
        )

    def open(self, **options: Any) -> ClientRuntime:
        """Return the runtime of the finished run: models, data, states.

        Args:
            **options: those of :func:`fedmosaic.api.opening.open_finished`.
        """
        return open_finished(self.path, self._objects, **{"device": self.device} | options)

    def export(self, client_id: int, form: str, out: Path, *, after_exchange: bool = False) -> None:
        """Write a client's final model.

        Args:
            client_id: of the scenario.
            form: as the ``kind`` of :meth:`ClientModel.export`.
            out: new folder for it.
            after_exchange: as the last exchange has left the client, not as local training has.
        """
        exporting.export(
            self.path, client_id, form, out, after_exchange=after_exchange, device=self.device, objects=self._objects
        )

    @cached_property
    def _album(self) -> InMemoryImages:
        return InMemoryImages()

    @property
    def _answering(self) -> ClientRuntime:
        """Models that read what they are asked about, shared by all clients, which take turns in them."""
        if self._opened is None or self._opened[0] != self.device:
            self._opened = None  # frees the other device's memory first
            cache = Path(tempfile.mkdtemp(prefix="fedmosaic-"))  # what was asked leaves no trace in the user's cache
            weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
            self._opened = (self.device, self.open(images=self._album, cache=cache))
        return self._opened[1]

    @contextmanager
    def _as_at(self, when: When, client_id: int) -> Iterator[BaseModel]:
        runtime = self._answering
        if when == "exchanged":
            check_exchanged(self.results, self.path)
        with answering(runtime, client_id, when) as model:
            yield model

    def _tell(self, client: ClientModel, pictures: Sequence[Picture], question: str, **options: Any) -> Generator[Said]:
        with self._as_at(client.when, client.spec.id) as model:
            yield from telling(model, self._album, pictures, question, **options)


class ClientModel:
    """What a client takes away from a run.

    Args:
        run: the run.
        spec: the client.
        after_exchange: as the last exchange has left it, not as local training has.
        before: as it was before the first round: its base model, with the LoRA that it brings.

    Attributes:
        spec: its id, base model and tasks.
        when: ``start``, ``final`` (as local training in the last round has left it) or ``exchanged``.

    Raises:
        SettingsError: both moments are asked for.
    """

    def __init__(self, run: Run, spec: ClientSpec, *, after_exchange: bool = False, before: bool = False) -> None:
        if before and after_exchange:
            raise SettingsError("a model is either as it was before the run or as after its last exchange; ask for one")
        self._run = run
        self.spec = spec
        self.when: When = "start" if before else "exchanged" if after_exchange else "final"

    def __repr__(self) -> str:
        return f"ClientModel({str(self._run.path)!r}, client {self.spec.id}: {self.spec.model})"

    def ask(
        self,
        image: Picture | Sequence[Picture] | None,
        question: str,
        options: Sequence[str] | None = None,
        *,
        max_tokens: int = DEFAULT_TOKENS,
    ) -> str:
        """Return the answer to a question about images.

        Args:
            image: a PIL image, a path, a list of these, or None for a question without images.
            question: may say where each image stands with an ``<image>`` mark; else all stand in front.
            options: the answers to choose from, the most likely of which is returned; None: the answer is generated.
            max_tokens: longest generated answer.

        Raises:
            SettingsError: the run is not done or made no last exchange, or question and images do not fit each other.
            DataError: an image or an option cannot be used.
            ModelError: the question is too long.
        """
        *_, said = self.tell(image, question, options, max_tokens=max_tokens)
        return said.text

    def tell(
        self,
        image: Picture | Sequence[Picture] | None,
        question: str,
        options: Sequence[str] | None = None,
        *,
        max_tokens: int = DEFAULT_TOKENS,
    ) -> Generator[Said]:
        """Return the answer of :meth:`ask` as it grows, token by token; the last one is complete.

        Clients take turns in a run's base models: read one answer to its end, or close the iterator, before the next.

        Args:
            image: as for :meth:`ask`.
            question: as for :meth:`ask`.
            options: as for :meth:`ask`.
            max_tokens: as for :meth:`ask`.

        Raises:
            FedMosaicError: as :meth:`ask` does.
        """
        check_length(max_tokens)  # before the run is opened
        pictures = pictures_of(image)
        return self._run._tell(self, pictures, question, options=options, max_tokens=max_tokens)

    def load(self) -> None:
        """Load what answers, which else is done for the first question.

        Raises:
            FedMosaicError: as :meth:`ask` does, for what is not about the question.
        """
        with self._run._as_at(self.when, self.spec.id):
            pass

    @cached_property
    def model(self) -> FinalModel:
        """The base model with the client's adapter, loaded for this object alone; reads images of the run's data.

        ``model.base.module`` is the transformers model.

        Raises:
            FedMosaicError: as :func:`~fedmosaic.federation.final_model.final_model` does.
        """
        return final_model(self._run.open(after_exchange=self._exchanged("model")), self.spec.id)

    def export(self, out: Path | str, kind: str = "lora") -> Path:
        """Write the model for use without fedmosaic, into a new folder; its ``README.md`` says how to load it.

        Args:
            out: the folder.
            kind: ``lora`` (a PEFT LoRA), ``merged`` (a whole checkpoint) or ``base`` (what a LoRA goes on).

        Returns:
            The folder.

        Raises:
            FedMosaicError: as :func:`fedmosaic.api.exporting.export` does.
        """
        self._run.export(self.spec.id, kind, Path(out), after_exchange=self._exchanged("export"))
        return Path(out)

    def _exchanged(self, what: str) -> bool:
        if self.when == "start":
            raise SettingsError(f"{what} is of a client's model after the run; before, it is the base model")
        return self.when == "exchanged"
