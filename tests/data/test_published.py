import base64
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.data.published import PublishedBenchmark
from fedmosaic.errors import DataError, SettingsError


def record(question: str, answer: str, image: object = None) -> dict[str, Any]:
    found: dict[str, Any] = {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}
    if image is not None:
        found["image"] = image
    return found


def write(folder: Path, name: str, subset: int, **splits: list[Any]) -> None:
    for split, records in splits.items():
        path = folder / "dataset" / name / split / f"dataset-{subset}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(records))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "dataset" / "VSR" / "images"
    images.mkdir(parents=True)
    Image.new("RGBA", (6, 4), (0, 0, 255, 255)).save(images / "a.png")
    Image.new("L", (5, 5), 9).save(images / "b.jpg")
    for i in range(30):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(images / f"{i}.png")
    train = [
        record(f"<image>\nIs it {i}? Choice list:[yes, no]", "yes", f"dataset/VSR/images/{i}.png") for i in range(30)
    ]
    test = [
        record("<image>\nWhat? Choice list:[cat, dog]", "Dog", "a.png"),
        record("<image_1> and <Image> differ how?", "in size", ["images/a.png", "dataset/VSR/images/b.jpg"]),
        record("What is one plus one?", "two"),
    ]
    test.append(
        {"conversations": [{"value": v} for v in ("<image> what?", "a cat", "where?", "outside")], "image": ["a.png"]}
    )
    write(tmp_path, "VSR", 0, train=train, test=test)
    write(tmp_path, "HQ_Edit", 0, train=train, test=test[2:3])
    return tmp_path


def test_a_folder_in_the_published_form_is_read_as_it_is(folder: Path) -> None:
    benchmark = load_benchmark("published", home=folder / "home", folder=folder)
    assert benchmark.task_names() == ["VSR-0"]
    assert benchmark.unseen_names() == ["HQ_Edit-0"]
    task = benchmark.task("VSR-0")
    assert task.family == "relation"
    first, second, third, fourth, fifth = task.test
    assert (first.prompt, first.answer, first.options) == (
        "<image>\nWhat? Choice list:[cat, dog]",
        "dog",
        ("cat", "dog"),
    )
    assert second.prompt == "<image> and <image> differ how?"
    assert second.images == ("dataset/VSR/images/a.png", "dataset/VSR/images/b.jpg")
    assert second.options is None
    assert third.images == ()
    assert (fourth.prompt, fourth.answer) == ("<image> what?", "a cat")
    assert (fifth.prompt, fifth.answer) == ("<image> what?\na cat\nwhere?", "outside")
    assert fifth.images == ("dataset/VSR/images/a.png",)
    assert {benchmark.images.load(key).mode for s in task.test for key in s.images} == {"RGB"}


def test_validation_is_cut_from_train_the_same_way_each_time(folder: Path) -> None:
    one, two = (PublishedBenchmark(folder).task("VSR-0") for _ in range(2))
    assert one == two
    assert len(one.validation) == 3
    assert len(one.train) == 27
    assert not {k for s in one.train for k in s.images} & {k for s in one.validation for k in s.images}


def _truncate(path: Path) -> None:
    path.write_text(path.read_text()[:-40])


def _replace(*records: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(list(records)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, ["truncated"]),
        (Path.unlink, ["missing"]),
        (_replace(), ["length 0"]),
        (lambda path: path.write_text("{}"), ["dict"]),
        (_replace(record("<image> what?", "cat", "nowhere.png")), ["record 0", "nowhere.png"]),
        (_replace(record("what?", "cat", "a.png")), ["record 0", "0 <image> mark(s)", "1 image(s)"]),
        (_replace(record("<image><image> what?", "cat", "a.png")), ["record 0", "2 <image> mark(s)"]),
        (_replace(record("q", "ok"), record("Choice list:[cat, dog]", "bird")), ["record 1", "'bird'", "cat"]),
        (_replace(record("Choice list:[cat, cat]", "cat")), ["record 0", "repeat"]),
        (_replace(record("q", " ")), ["record 0", "empty"]),
        (_replace({"conversations": [{"value": "only a question"}]}), ["record 0", "question and answer"]),
        (_replace({"conversations": [{"value": "q"}, {"value": 3}]}), ["record 0", "text 'value'"]),
        (_replace({"image": "a.png"}), ["record 0", "conversations"]),
        (_replace(record("<image> q", "a", {"x": 1})), ["record 0", "list of paths"]),
        (_replace(record("<image> q", "a", "../../../../../etc/hostname")), ["record 0", "hostname"]),
        (_replace(7), ["record 0"]),
    ],
)
def test_bad_files_and_records_are_named(folder: Path, damage: Callable[[Path], None], words: list[str]) -> None:
    path = folder / "dataset" / "VSR" / "test" / "dataset-0.json"
    damage(path)
    with pytest.raises(DataError) as error:
        PublishedBenchmark(folder).task("VSR-0")
    for word in (str(path), *words):
        assert word in str(error.value)


def test_bad_records_can_be_left_out_and_are_told(folder: Path) -> None:
    path = folder / "dataset" / "VSR" / "test" / "dataset-0.json"
    _replace(record("q", "fine"), record("<image> q", "a", "nowhere.png"), record("Choice list:[cat, dog]", "bird"))(
        path
    )
    benchmark = PublishedBenchmark(folder, skip_bad=True)
    assert [sample.answer for sample in benchmark.task("VSR-0").test] == ["fine"]
    assert len(benchmark.skipped) == 2
    assert "record 1" in benchmark.skipped[0]
    assert "record 2" in benchmark.skipped[1]


def test_an_empty_folder_and_a_wrong_name_are_explained(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="dataset-ID"):
        PublishedBenchmark(tmp_path / "empty")
    with pytest.raises(SettingsError, match="VSR-0"):
        PublishedBenchmark(folder).task("VSR-1")
    with pytest.raises(SettingsError, match="data folder"):
        load_benchmark("published", home=tmp_path)
    with pytest.raises(SettingsError, match="mosaic40"):
        load_benchmark("mosaic4", home=tmp_path)


def test_public_samples_are_those_of_the_task_that_is_named_public(folder: Path) -> None:
    name = PublishedBenchmark(folder).task_names()[0]
    with pytest.raises(SettingsError, match='public = "NAME-ID"'):
        PublishedBenchmark(folder).public(1, seed=0)
    named = PublishedBenchmark(folder, public=name)
    train = named.task(name).train
    drawn = named.public(len(train), seed=0)
    assert sorted(sample.id for sample in drawn) == sorted(sample.id for sample in train)
    assert drawn == named.public(len(train), seed=0)
    with pytest.raises(SettingsError, match=f"{len(train)} public samples"):
        named.public(len(train) + 1, seed=0)


def test_a_missing_task_is_told_with_its_path_and_how_to_get_it(folder: Path) -> None:
    with pytest.raises(SettingsError) as error:
        PublishedBenchmark(folder).task("SEED-Bench-2-1")
    wanted = folder / "dataset" / "SEED-Bench-2" / "train" / "dataset-1.json"
    for word in (str(wanted), "authors' release", "FEDMOSAIC_DATA"):
        assert word in str(error.value)
    with pytest.raises(DataError, match="FEDMOSAIC_DATA"):
        PublishedBenchmark(folder / "nowhere")


def test_images_of_later_turns_are_shown_from_their_turn_on(folder: Path) -> None:
    conversations = [{"value": v} for v in ("<image> what?", "a cat", "and <image2>?", "a dog")]
    path = folder / "dataset" / "VSR" / "test" / "dataset-0.json"
    _replace({"conversations": conversations, "image": ["a.png", "b.jpg"]})(path)
    first, second = PublishedBenchmark(folder).task("VSR-0").test
    assert first.images == ("dataset/VSR/images/a.png",)
    assert second.images == ("dataset/VSR/images/a.png", "dataset/VSR/images/b.jpg")
    assert second.prompt == "<image> what?\na cat\nand <image>?"


def test_open_tasks_keep_the_options_as_text(folder: Path) -> None:
    sample = PublishedBenchmark(folder, open_tasks=["VSR-0"]).task("VSR-0").test[0]
    assert (sample.answer, sample.options) == ("Dog", None)
    assert "[cat, dog]" in sample.prompt


def _header_of(path: Path, width: int, height: int) -> None:
    """Write a PNG whose header claims a size that its pixels do not have."""
    Image.new("L", (3, 3)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (60_000, 60_000), (5_000, 2)])
def test_images_of_absurd_sizes_are_named_with_their_record(folder: Path, size: tuple[int, int]) -> None:
    _header_of(folder / "dataset" / "VSR" / "images" / "odd.png", *size)
    path = folder / "dataset" / "VSR" / "test" / "dataset-0.json"
    _replace(record("q", "fine"), record("<image> q", "a", "odd.png"))(path)
    with pytest.raises(DataError) as error:
        PublishedBenchmark(folder).task("VSR-0")
    for word in (str(path), "record 1", "odd.png"):
        assert word in str(error.value)
    benchmark = PublishedBenchmark(folder, skip_bad=True)
    assert [sample.answer for sample in benchmark.task("VSR-0").test] == ["fine"]
    assert len(benchmark.skipped) == 1


def test_skipping_also_finds_images_whose_pixels_are_cut_off(folder: Path) -> None:
    damaged = folder / "dataset" / "VSR" / "images" / "cut.png"
    Image.effect_noise((64, 64), 50).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:600])
    _replace(record("q", "fine"), record("<image> q", "a", "cut.png"))(
        folder / "dataset" / "VSR" / "test" / "dataset-0.json"
    )
    benchmark = PublishedBenchmark(folder, skip_bad=True)
    assert [sample.answer for sample in benchmark.task("VSR-0").test] == ["fine"]
    assert "cut.png" in benchmark.skipped[0]


def _uri(image: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(image.read_bytes()).decode()


def _good(answer: str = "fine", **more: Any) -> dict[str, Any]:
    return record("q", answer) | more


BAD_RECORDS: dict[str, Any] = {
    "a lone surrogate": record("q", "\ud800"),
    "a control character": record("q\0", "a"),
    "a mark in the answer": record("q", "see <image>"),
    "an over-long path": record("<image> q", "a", "x" * 5000 + ".png"),
    "an over-long name of a folder": record("<image> q", "a", "x/" * 3000 + "a.png"),
    "NUL in a path": record("<image> q", "a", "a\0.png"),
    "a surrogate in a path": record("<image> q", "a", "\ud800.png"),
    "a folder": record("<image> q", "a", "images"),
    "an address": record("<image> q", "a", "https://example.org/a.png"),
    "a damaged data URI": record("<image> q", "a", "data:image/png;base64,AAAA"),
    "a data URI of text": record("<image> q", "a", "data:text/plain,hello"),
    "a second turn that is bad": {"conversations": [{"value": v} for v in ("q", "a", "Choices: [x, y]", "z")]},
    "an unused key": _good(video="a.mp4"),
    "an unknown role": {"conversations": [{"from": "tool", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "a number": record("q", 3),  # type: ignore[arg-type]
    "null": None,
    "a list": [1],
    "a text": "x",
}


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_every_bad_record_is_one_line_and_can_be_left_out(folder: Path, bad: Any, lines: bool) -> None:
    path = folder / "dataset" / "VSR" / "test" / "dataset-0.json"
    records = [_good(), bad, _good("too")]
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    with pytest.raises(DataError) as error:
        PublishedBenchmark(folder).task("VSR-0")
    message = str(error.value)
    assert f"{path}, record 1{' (line 2)' * lines}: " in message
    assert "\n" not in message
    assert len(message) < 700
    message.encode()
    benchmark = PublishedBenchmark(folder, skip_bad=True)
    assert [sample.answer for sample in benchmark.task("VSR-0").test] == ["fine", "too"]
    assert [str(error.value).partition(": ")[0] in skipped for skipped in benchmark.skipped] == [True]


@pytest.mark.parametrize("bad", ['{"conversations": []', '{"a": 1, "a": 1}', "[" * 9999 + "]" * 9999, "\0", '"\xe9"'])
def test_records_that_are_no_json_can_be_left_out(folder: Path, bad: str) -> None:
    path = folder / "dataset" / "VSR" / "test" / "dataset-0.json"
    good = json.dumps(_good())
    for content in (f"{good}\n{bad}\n{good}", f"[{good}, {bad}, {good}]"):
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(DataError, match="record 1"):
            PublishedBenchmark(folder).task("VSR-0")
        benchmark = PublishedBenchmark(folder, skip_bad=True)
        assert {sample.answer for sample in benchmark.task("VSR-0").test} == {"fine"}
        assert len(benchmark.skipped) == 1


def test_a_picture_in_the_record_is_the_picture_in_the_file(folder: Path) -> None:
    image = folder / "dataset" / "VSR" / "images" / "7.png"
    path = folder / "dataset" / "VSR" / "test" / "dataset-0.json"
    _replace(record("<image> <image> q", "a", [_uri(image), "7.png"]))(path)
    benchmark = PublishedBenchmark(folder)
    (sample,) = benchmark.task("VSR-0").test
    one, two = (benchmark.images.load(key) for key in sample.images)
    assert one.tobytes() == two.tobytes()
    assert one.getpixel((0, 0)) == (7, 0, 0)


def test_json_lines_with_their_own_ending_make_a_task(folder: Path) -> None:
    home = folder / "dataset" / "VSR"
    for split in ("train", "test"):
        lines = "\n".join(json.dumps(_good(f"{split} {i}")) for i in range(20))
        (home / split / "dataset-1.jsonl").write_text("\ufeff" + lines, encoding="utf-8")
    benchmark = PublishedBenchmark(folder)
    assert benchmark.task_names() == ["VSR-0", "VSR-1"]
    assert benchmark.task("VSR-1").test[3].answer == "test 3"
    shutil.copy(home / "test" / "dataset-1.jsonl", home / "test" / "dataset-1.json")
    with pytest.raises(DataError, match=r"dataset-1.json and dataset-1.jsonl"):
        PublishedBenchmark(folder).task("VSR-1")


def test_options_that_cannot_be_read_are_told_unless_the_task_is_open(tmp_path: Path) -> None:
    for split, size in (("train", 3), ("test", 2)):
        place = tmp_path / "dataset" / "A" / split
        place.mkdir(parents=True)
        conversations = [[{"value": f"{split} {i} ? Choices:\n- cat\n- dog"}, {"value": "dog"}] for i in range(size)]
        (place / "dataset-0.json").write_text(
            json.dumps([{"conversations": conversation} for conversation in conversations])
        )
    benchmark = PublishedBenchmark(tmp_path)
    assert benchmark.task("A-0").test[0].options is None
    (note,) = benchmark.notes
    assert note.startswith("A-0: 2 of 2 test samples announce options")
    quiet = PublishedBenchmark(tmp_path, open_tasks=["A-0"])
    quiet.task("A-0")
    assert quiet.notes == []
