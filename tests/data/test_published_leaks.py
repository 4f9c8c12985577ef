"""What stands in train is not known from validation, and what stands in test is told if train knows it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fedmosaic.data.published import PublishedBenchmark
from fedmosaic.data.sample import Task

TEST = [{"conversations": [{"value": "something else"}, {"value": "yes"}]}]


def task(folder: Path, train: list[Any], test: list[Any] | None = None) -> Task:
    return benchmark(folder, train, test).task("Own-0")


def benchmark(folder: Path, train: list[Any], test: list[Any] | None = None) -> PublishedBenchmark:
    for split, records in (("train", train), ("test", test or TEST)):
        path = folder / "dataset" / "Own" / split / "dataset-0.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(records))
    return PublishedBenchmark(folder)


def conversation(*texts: str, **more: Any) -> dict[str, Any]:
    return {"conversations": [{"value": text} for text in texts], **more}


def records_of(samples: tuple[Any, ...]) -> set[str]:
    return {sample.id.rpartition("-")[0] for sample in samples}


def test_the_turns_of_a_conversation_go_to_one_side(tmp_path: Path) -> None:
    train = [conversation(*(f"question {i} {turn}" for turn in range(6))) for i in range(50)]
    found = task(tmp_path, train)
    assert (len(found.train), len(found.validation)) == (135, 15)
    assert not records_of(found.train) & records_of(found.validation)


@pytest.mark.parametrize(
    "again",
    [
        lambda i: conversation(f"question {i}", f"answer {i}"),
        lambda i: conversation(f" Question  {i}", f"answer {i}"),
        lambda i: conversation(f"question {i}", f"another answer {i}"),
        lambda i: conversation(f"start {i}", f"so {i}", f"question {i}", f"answer {i}"),
    ],
    ids=["twice", "spelled otherwise", "answered otherwise", "within a conversation"],
)
def test_equal_texts_go_to_one_side(tmp_path: Path, again: Any) -> None:
    train = [conversation(f"question {i}", f"answer {i}") for i in range(40)] + [again(i) for i in range(40)]
    found = task(tmp_path, train)
    assert found.validation
    kept, cut = ({int(number) % 40 for _, number in (name.split("-") for name in records_of(samples))}
                 for samples in (found.train, found.validation))  # fmt: skip
    assert not kept & cut


def test_questions_that_all_pictures_share_do_not_tie_them_together(tmp_path: Path) -> None:
    for i in range(20):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    found = task(tmp_path, [conversation("<image> what is it?", "a colour", image=f"{i}.png") for i in range(20)])
    assert (len(found.train), len(found.validation)) == (18, 2)


def test_one_picture_under_several_names_is_one(tmp_path: Path) -> None:
    for i in range(20):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
        shutil.copy(tmp_path / f"{i}.png", tmp_path / f"copy of {i}.png")
        (tmp_path / f"link to {i}.png").symlink_to(f"{i}.png")
    names = ("{}.png", "./x/../{}.png", "copy of {}.png", "link to {}.png")
    train = [
        conversation(f"<image> q{n}", "a", image=name.format(i)) for i in range(20) for n, name in enumerate(names)
    ]
    found = task(tmp_path, train)
    assert (len(found.train), len(found.validation)) == (72, 8)
    kept, cut = ({int(name.split("-")[1]) // 4 for name in records_of(s)} for s in (found.train, found.validation))
    assert not kept & cut


def test_test_samples_that_train_knows_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "one.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "two.png")
    train = [conversation(f"question {i}", f"answer {i}") for i in range(5)] + [
        conversation("<image> what?", "x", image="one.png")
    ]
    fresh = [conversation("question 9", "answer 1"), conversation("<image> what?", "x", image="two.png")]
    own = benchmark(tmp_path, train, fresh)
    own.task("Own-0")
    assert own.notes == []
    own = benchmark(
        tmp_path,
        train,
        [*fresh, conversation("Question 3", "other"), conversation("<image> what?", "x", image="one.png")],
    )
    assert len(own.task("Own-0").test) == 4
    own.task("Own-0")
    (note,) = own.notes
    for word in ("Own-0", "2 of 4 test samples", "record 2 of test is record 3 of train"):
        assert word in note
