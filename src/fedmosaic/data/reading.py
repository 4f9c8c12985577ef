"""From decoded records of any format to samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fedmosaic.data.file_images import FileImages
from fedmosaic.data.formats.plain import IMAGE_KEYS, Format, listed_images, text_of, with_images
from fedmosaic.data.option_columns import OPTIONS, Options, lettered, options_of
from fedmosaic.data.records import Answer, answers, parse_conversation, unused_keys
from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.data.sources import Source
from fedmosaic.data.texts import check_text, quoted
from fedmosaic.errors import DataError, SettingsError
from fedmosaic.nearest import hint
from fedmosaic.registry import FORMATS, METRICS

LONGEST_TEXT = 10_000_000
"""Characters of all turns of a record; no model reads as many."""

_ROLES = (
    *("question", "answer", "context", "image", "options", "metric", "task", "system", "messages", "conversations"),
)
_ASKED = ("question", "answer", "messages", "conversations")
_CHOICE = frozenset({"choice", "multi-choice", "multiple-choice", "accuracy"})
# What would change the meaning of questions and answers if it were left out.
_LOSSY = """
    tools tool_calls functions video videos audio audios objects chosen rejected rejected_response rejected_messages
    rejected_images preferred_output non_preferred_output
"""
_MEANINGFUL = frozenset(_LOSSY.split())
_VERDICTS = ("label", "kto_tag")  # true or false: whether the answer is a good one
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
        number: the answer, where it is a number in place of an option's text.
        is_open: whether the metric is one of open answers.
        group: what the task column says.
    """

    conversation: Mapping[str, Any]
    options: Options | None
    number: int | None
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
    _applies: bool | None = field(default=None, init=False)

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
        unused = unused_keys(record, {*form.keys, *IMAGE_KEYS, *OPTIONS, *_SETTLED, *lettered(record)})
        verdicts = [key for key in _VERDICTS if isinstance(record.get(key), bool)]
        if lost := sorted({*verdicts, *_MEANINGFUL.intersection(unused)}):
            raise DataError(f"it has {', '.join(map(repr, lost))}, which cannot be used; remove the key or the record")
        self.seen.unused.update(unused)
        group = text_of(record, "task") if "task" in self.columns else ""
        check_text(group, f"the task column {self.columns.get('task')!r}")
        if "task" in self.columns:
            self.seen.groups[group] += 1
        plain = form.plain(record)
        self.seen.unused.update(plain.unused)
        turns, images = with_images(plain, listed_images(record))
        conversation = {"conversations": [{"from": role, "value": text} for role, text in turns], "images": images}
        options = options_of(record)
        return Record(conversation, options, plain.number, _is_open(record, options), group)

    def finish(self, path: Path) -> list[str]:
        """Check, after the last record, that each named column was there; return what should be known.

        Args:
            path: the file, for messages.

        Raises:
            DataError: one was in no record.
        """
        absent = ", ".join(map(repr, sorted(self._absent)))
        if self._absent and self._applies:
            raise DataError(f"{path}: no record has {absent}, which the columns name")
        return [] if self._applies or not absent else [f"{path}: has no columns {absent}, and is read as it is"]

    def _renamed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record with the usual names for the columns that the scenario names.

        A file whose first record has none of those that hold questions and answers is of another form, and left as is.
        """
        if not self.columns:
            return record
        if self._applies is None:
            asked = [own for name, own in self.columns.items() if name in _ASKED]
            self._applies = not asked or any(own in record for own in asked)
        columns = {name: own for name, own in self.columns.items() if self._applies or name == "task"}
        self._absent -= record.keys()
        found = {key: value for key, value in record.items() if key not in columns.values()}
        for name, own in columns.items():
            if own not in record and name in (*_ASKED, "task"):
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
    length = sum(len(turn["value"]) for turn in record.conversation["conversations"])
    if length > LONGEST_TEXT:
        raise DataError(f"it has {length:,} characters of text; expected at most {LONGEST_TEXT:,}")
    conversation = parse_conversation(record.conversation)
    keys = tuple(images.take(image, home, decode=decode) for image in conversation.images)
    digests = tuple(map(images.digest, keys))
    is_open = is_open or record.is_open
    given = list(answers(conversation, is_open=is_open or record.options is not None))
    if record.options is not None and not is_open:
        if len(given) != 1:
            raise DataError(f"it has options but {len(given)} answers; expected one, or the options in the questions")
        given = [_chosen(given[0], record.options, record.number)]
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
            f"its keys {quoted(sorted(map(str, record)))} are of no known format ({known}); name its columns: --column "
            "question=..., or in the scenario columns = { question = '...', answer = '...' }"
        )
    if len(best) > 1:
        raise DataError(f"it is {' and '.join(repr(kind.name) for kind in best)} at once; keep the keys of one")
    return best[0]


def _chosen(answer: Answer, options: Options, number: int | None) -> Answer:
    """Return an answer as one of the options, which stand in the prompt."""
    question = options.told_in(answer.question)
    prompt = answer.prompt + question.removeprefix(answer.question)
    return Answer(question, prompt, options.chosen(answer.text, number), options.texts)


def _is_open(record: Mapping[str, Any], options: Options | None) -> bool:
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
