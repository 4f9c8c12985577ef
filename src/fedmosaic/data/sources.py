"""Samples with what they were made of, for splitting them and for noticing what makes scores mean less."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from fedmosaic.data.option_lists import announces_options
from fedmosaic.data.sample import Sample
from fedmosaic.data.texts import normalised, quoted


@dataclass(frozen=True, slots=True)
class Source:
    """A sample with its record.

    Attributes:
        sample: the sample.
        place: the record's, for errors.
        question: that of the sample's answer.
        images: digests of its images.
        group: what the record's task column says; empty if there is none.
    """

    sample: Sample
    place: str
    question: str
    images: tuple[str, ...]
    group: str = ""


def split_keys(read: Source) -> set[Hashable]:
    """Return what samples of two splits must not share: record, images, texts that are not about images.

    Texts about images are the same for many images ("what is this?") and reveal nothing without them.

    Args:
        read: the sample.
    """
    keys: set[Hashable] = {("record", read.place), *(("image", image) for image in read.images)}
    if not read.images:
        prompt, question, answer = map(normalised, (read.sample.prompt, read.question, read.sample.answer))
        keys |= {("prompt", prompt), ("turn", question, answer)}
    return keys


def overlap_notes(name: str, train: Sequence[Source], test: Sequence[Source]) -> list[str]:
    """Return a note if test samples repeat questions of train samples about the same images.

    Args:
        name: of the task.
        train: its train samples.
        test: its test samples.
    """
    trained = {_asked(read): read.place for read in reversed(train)}
    repeated = [read for read in test if _asked(read) in trained]
    if not repeated:
        return []
    first = f"{repeated[0].place} of test is {trained[_asked(repeated[0])]} of train"
    return [
        f"{name}: {len(repeated)} of {len(test)} test samples are in its train file, too ({first}); "
        "their scores measure memorisation: take them out of one of the files"
    ]


def open_option_notes(name: str, test: Sequence[Source]) -> list[str]:
    """Return a note if questions announce options in no known form, so that their answers count as open.

    Args:
        name: of the task.
        test: its test samples.
    """
    unread = [read for read in test if read.sample.options is None and announces_options(read.question)]
    if not unread:
        return []
    return [
        f"{name}: {len(unread)} of {len(test)} test samples announce options in no form that is read, and are scored "
        f"as open answers ({unread[0].place}: {quoted(unread[0].question)}); write Choice list:[..., ...], or name the "
        "task in open_tasks"
    ]


def _asked(read: Source) -> Hashable:
    return read.images, normalised(read.sample.prompt)
