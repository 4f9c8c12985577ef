"""Scores of base models without adapters: they never change, so a machine measures them once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample
from fedmosaic.evaluation import TaskScore
from fedmosaic.io import write_atomically

_SCORING = 5  # raise it when samples are scored in another way

Scores = dict[str, TaskScore]


class BaseScores:
    """Known scores, in memory and in a folder that outlives the run.

    What was asked for together is kept together: in other company a sample is padded otherwise, and its score could
    differ in the last bit.

    Args:
        folder: one small JSON file for each question asked.
        how: all that a score depends on beside model and samples, as JSON has it.
        images: where the samples' images are; what they show is part of the question.
    """

    def __init__(self, folder: Path, how: Mapping[str, object], images: ImageSource) -> None:
        self._folder = folder
        self._images = images
        self._common = [_SCORING, dict(how)]
        self._known: dict[str, Scores] = {}

    def get(self, model: str, tasks: Mapping[str, Sequence[Sample]], measure: Callable[[], Scores]) -> Scores:
        """Return the scores by task, measured only if nobody has asked before.

        Args:
            model: what the base model is; it covers weights, tokenizer and templates.
            tasks: the samples to score.
            measure: scores them.
        """
        questions = {name: list(map(self._question, each)) for name, each in tasks.items()}
        asked = json.dumps([self._common, model, questions])
        key = hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()
        if key not in self._known:
            path = self._folder / f"{key}.json"
            found = _read(path, tasks)
            self._known[key] = measure() if found is None else found
            if found is None:
                write_atomically(
                    path, json.dumps({name: each.scores for name, each in self._known[key].items()}) + "\n"
                )
        return self._known[key]

    def _question(self, sample: Sample) -> list[str]:
        return [repr(sample), *map(self._images.digest, sample.images)]


def _read(path: Path, tasks: Mapping[str, Sequence[Sample]]) -> Scores | None:
    """Return the scores in a file; None if there is none, or none of these samples: then they are measured again."""
    try:
        table = {name: TaskScore(tuple(map(float, scores))) for name, scores in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    whole = {name: len(each.scores) for name, each in table.items()} == {
        name: len(each) for name, each in tasks.items()
    }
    return table if whole else None
