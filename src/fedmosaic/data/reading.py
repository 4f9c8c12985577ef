"""From decoded records of any format to samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fedmosaic.data.file_images import FileImages
from fedmosaic.data.formats.plain import IMAGE_KEYS, Format, listed, listed_images, text_of, with_images
from fedmosaic.data.options import match_answer
from fedmosaic.data.records import Answer, answers, parse_conversation, unused_keys
from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.data.sources import Source
from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError, SettingsError
from fedmosaic.nearest import hint
from fedmosaic.registry import FORMATS, METRICS

OPTIONS = ("options", "choices")
"""Names under which a record lists the answers to choose from."""

_ROLES = ("question", "answer", "image", "options", "metric", "task", "system", "messages", "conversations")
_CHOICE = frozenset({"choice", "multi-choice", "multiple-choice", "accuracy"})
# What would change the meaning of questions and answers if it were left out.
_MEANINGFUL = frozenset(
    {"tools", "tool_calls", "functions", "video", "videos", "audio", "audios", "chosen", "rejected"}
)
_SETTLED = ("options", "metric", "task")


class Counts(Protocol):
    """Where a recogniser counts what it sees: the names of formats, the keys that are not used, the groups."""

    formats: set[str]
    unused: Counter[str]
    groups: Counter[str]


@dataclass(frozen=True, slots=True)
class Record:
    """A record in the published form, with what its columns say.

    Attributes:
        conversation: as :func:`~fedmosaic.data.records.parse_conversation` takes it.
        options: the answers to choose from, or None if they are to be read from the question.
        answer: number of the right option; None where the text says it.
        is_open: whether the metric is one of open answers.
        group: what the task column says.
    """

    conversation: Mapping[str, Any]
    options: tuple[str, ...] | None
    answer: int | None
    is_open: bool
    group: str


class Recogniser:
    """Recognises formats.

    Args:
        columns: usual name of a column -> what it is called in the data.

    Raises:
        SettingsError: a name has no meaning.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        for name in columns:
            if name not in _ROLES:
                raise SettingsError(f"columns: unknown {name!r}; {hint(name, _ROLES)}known: {', '.join(_ROLES)}")
        self.columns = dict(columns)
        self.divides = "task" in columns
        self._formats: list[type[Format]] = FORMATS.load_all()

    def of_file(self, home: Path, adapted: Callable[[dict[str, Any]], dict[str, Any]], seen: Counts) -> FileRecords:
        """Return what reads the records of one file.

        Args:
            home: the file's folder.
            adapted: gives its records the usual keys.
            seen: where to count.
        """
        return FileRecords(home, adapted, seen, self.columns, self._formats)


@dataclass
class FileRecords:
    """The records of one file, which all have the format of the first one that has any.

    Attributes:
        home: the file's folder.
        adapted: gives records the usual keys.
        seen: where to count.
        columns: usual name -> name in the file.
        formats: those that it may have.
    """

    home: Path
    adapted: Callable[[dict[str, Any]], dict[str, Any]]
    seen: Counts
    columns: Mapping[str, str]
    formats: Sequence[type[Format]]
    _format: type[Format] | None = field(default=None, init=False)
    _absent: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._absent = set(self.columns.values())

    def plain(self, value: object) -> Record:
        """Return a record in the published form.

        Args:
            value: as it was decoded.

        Raises:
            DataError: it has another format than those before it, or none, lacks a column, or is damaged.
        """
        if not isinstance(value, dict):
            raise DataError(f"expected an object, found {quoted(value)}")
        record = self._renamed(self.adapted(value))
        form = _format_of(record, self.formats)
        self._format = self._format or form
        if form is not self._format:
            raise DataError(
                f"it is {form.name!r}, but the file's first record is {self._format.name!r}; divide the file"
            )
        self.seen.formats.add(form.name)
        unused = unused_keys(record, {*form.keys, *IMAGE_KEYS, *OPTIONS, *_SETTLED})
        if lost := sorted(_MEANINGFUL.intersection(unused)):
            raise DataError(f"it has {', '.join(map(repr, lost))}, which cannot be used; remove the key or the record")
        self.seen.unused.update(unused)
        group = text_of(record, "task") if "task" in self.columns else ""
        if "task" in self.columns:
            self.seen.groups[group] += 1
        turns, images = with_images(form.plain(record), listed_images(record))
        conversation = {"conversations": [{"from": role, "value": text} for role, text in turns], "images": images}
        options, names = _options(record)
        return Record(conversation, options, _number(record, options, names), _is_open(record, options), group)

    def finish(self) -> None:
        """Check, after the last record, that each named column was there.

        Raises:
            DataError: one was in no record.
        """
        if self._absent:
            raise DataError(
                f"no record has {', '.join(map(repr, sorted(self._absent)))}, which the scenario's columns name"
            )

    def _renamed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record with the usual names for the columns that the scenario names."""
        if not self.columns:
            return record
        self._absent -= record.keys()
        found = {key: value for key, value in record.items() if key not in self.columns.values()}
        for name, own in self.columns.items():
            if own not in record and name in ("question", "answer", "task", "messages", "conversations"):
                raise DataError(f"it has no {own!r}, which is to be the {name}; it has {quoted(sorted(record))}")
            found[name] = record.get(own)
        return found


def samples_of(
    record: Record, place: str, sample_id: str, *, images: FileImages, home: Path, decode: bool, is_open: bool
) -> list[Source]:
    """Return one sample per answer of a record: all of them, or none if one is bad.

    Args:
        record: the record.
        place: where it is, for errors.
        sample_id: begins the ids of its samples.
        images: where images are found.
        home: the folder of the record's file.
        decode: whether images are decoded now.
        is_open: whether options are left in the text only.

    Raises:
        DataError: the record cannot be used.
    """
    conversation = parse_conversation(record.conversation)
    keys = tuple(images.take(image, home, decode=decode) for image in conversation.images)
    digests = tuple(map(images.digest, keys))
    is_open = is_open or record.is_open
    given = list(answers(conversation, is_open=is_open or record.options is not None))
    if record.options is not None and not is_open:
        if len(given) != 1:
            raise DataError(f"it has options but {len(given)} answers; expected one, or the options in the questions")
        given = [_chosen(given[0], record.options, record.answer)]
    found = []
    for turn, answer in enumerate(given):
        n = answer.prompt.count(IMAGE_MARK)
        sample = Sample(f"{sample_id}-{turn}", keys[:n], answer.prompt, answer.text, answer.options)
        found.append(Source(sample, place, answer.question, digests[:n], record.group))
    return found


def _format_of(record: Mapping[str, Any], kinds: Sequence[type[Format]]) -> type[Format]:
    claimed = [kind for kind in kinds if kind.claims(record)]
    best = [kind for kind in claimed if kind.rank == min(each.rank for each in claimed)]
    if not best:
        known = ", ".join(kind.name for kind in kinds)
        raise DataError(
            f"its keys {quoted(sorted(map(str, record)))} are of no known format ({known}); name its columns in the "
            "scenario: columns = { question = '...', answer = '...' }"
        )
    if len(best) > 1:
        raise DataError(f"it is {' and '.join(repr(kind.name) for kind in best)} at once; keep the keys of one")
    return best[0]


def _options(record: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return the options that a record lists, and their letters."""
    value = next((record[key] for key in OPTIONS if record.get(key) not in (None, "", [], {})), None)
    if value is None:
        return None, ()
    value = listed(value)
    if isinstance(value, str):
        value = [item.strip() for item in value.split("|" if "|" in value else ";" if ";" in value else ",")]
    if isinstance(value, Mapping) and {"text", "label"} <= value.keys():  # ARC's
        value = dict(zip(value["label"], value["text"], strict=True))
    if isinstance(value, Mapping):
        return tuple(map(str, value.values())), tuple(map(str, value))
    if not isinstance(value, list | tuple) or not all(isinstance(each, str | int | float) for each in value):
        raise DataError(f"its options are {quoted(value)}; expected a list of texts, or texts with | between them")
    return tuple(map(str, value)), tuple(chr(ord("A") + i) for i in range(min(len(value), 26)))


def _number(record: Mapping[str, Any], options: Sequence[str] | None, names: Sequence[str]) -> int | None:
    """Return the number of the option that an answer column names by its number (from 0) or letter."""
    if options is None:
        return None
    for key in ("answer", "label", "solution"):
        value = record.get(key)
        if isinstance(value, bool) or value is None or match_answer(str(value), tuple(options)) is not None:
            continue
        if isinstance(value, int):
            if not 0 <= value < len(options):
                raise DataError(f"{key!r} is {value}; its {len(options)} options are numbered from 0")
            return value
        if isinstance(value, str) and value.strip() in names:
            return names.index(value.strip())
    return None


def _chosen(answer: Answer, options: tuple[str, ...], number: int | None) -> Answer:
    """Return an answer as one of the options, which stand in the prompt."""
    text = options[number] if number is not None else match_answer(answer.text, options)
    if text is None:
        raise DataError(f"the answer {quoted(answer.text)} is not one of the options {quoted(list(options))}; mend one")
    told = "" if all(option in answer.question for option in options) else f"\nChoice list:[{', '.join(options)}]"
    return Answer(answer.question + told, answer.prompt + told, text, options)


def _is_open(record: Mapping[str, Any], options: Sequence[str] | None) -> bool:
    """Return whether the metric column asks for an open answer."""
    metric = text_of(record, "metric").strip().lower()
    if not metric:
        return False
    if metric in _CHOICE:
        if options is None:
            raise DataError(f"its metric is {metric!r}, but it lists no options; add them: options")
        return False
    if metric != "open" and metric not in METRICS:
        raise DataError(f"its metric is {quoted(metric)}; expected {', '.join(sorted({*_CHOICE, 'open', *METRICS}))}")
    return True
