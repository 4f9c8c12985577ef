"""The tasks as a benchmark: made when they are asked for, in milliseconds; no file, no image."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from functools import cache

from fedmosaic.data.benchmark import unknown
from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.words.public import public_questions
from fedmosaic.data.words.tasks import SEEN, UNSEEN, make_task
from fedmosaic.seeding import derive

EDITION = 1
"""Raise it with any change of what is asked: scores of two editions are not comparable."""


class WordsBenchmark:
    """24 tasks for eight clients, and three that no client sees."""

    name = "words"
    images = GivenImages(())

    def task_names(self) -> list[str]:
        """Return the clients' tasks, client by client, in order."""
        return list(SEEN)

    def unseen_names(self) -> list[str]:
        """Return the tasks that no client trains on."""
        return list(UNSEEN)

    def task(self, name: str) -> Task:
        """Return one task.

        Args:
            name: ``skill@domain``.

        Raises:
            SettingsError: there is no such task.
        """
        if name not in (*SEEN, *UNSEEN):
            raise unknown("task", name, (*SEEN, *UNSEEN))
        return _made(name)

    def public(self, count: int, seed: int) -> Sequence[Sample]:
        """Return questions about public words and numbers.

        Args:
            count: number of samples.
            seed: of the samples.
        """
        return public_questions(count, random.Random(derive(seed, "words", "public")))


def checksum() -> str:
    """Return a digest of all samples of all tasks, which belongs to :data:`EDITION`."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (*SEEN, *UNSEEN):
        task = _made(name)
        for sample in (*task.train, *task.validation, *task.test):
            digest.update(json.dumps([name, sample.id, sample.prompt, sample.answer, sample.options]).encode())
    return digest.hexdigest()


@cache
def _made(name: str) -> Task:
    return make_task(name)
