"""Own files in the usual formats: all say the same question about the same image, and must be read alike."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.data.files import FilesBenchmark
from fedmosaic.errors import DataError, SettingsError


def png(level: int = 7) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (level, 0, 0)).save(file, "PNG")
    return file.getvalue()


BASE64 = base64.b64encode(png()).decode()
URI = f"data:image/png;base64,{BASE64}"
TEXT = {"type": "text", "text": "What is it?"}
ANSWER = {"role": "assistant", "content": "a cat"}


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


# Name of the format, and a record of one question about one image.
SMALLEST = {
    "messages with a mark": ("messages", {"messages": [user("<image>\nWhat is it?"), ANSWER], "images": ["a.png"]}),
    "TRL: text without a mark": ("messages", {"messages": [user("What is it?"), ANSWER], "images": ["a.png"]}),
    "TRL: parts": (
        "messages",
        {
            "messages": [user([{"type": "image"}, TEXT]), {**ANSWER, "content": [{"type": "text", "text": "a cat"}]}],
            "images": ["a.png"],
        },
    ),
    "OpenAI": ("messages", {"messages": [user([{"type": "image_url", "image_url": {"url": URI}}, TEXT]), ANSWER]}),
    "OpenAI responses": (
        "messages",
        {"messages": [user([{"type": "input_image", "image_url": URI}, {**TEXT, "type": "input_text"}]), ANSWER]},
    ),
    "Anthropic": (
        "messages",
        {
            "messages": [
                user(
                    [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
                        TEXT,
                    ]
                ),
                ANSWER,
            ]
        },
    ),
    "Hugging Face: path in the part": (
        "messages",
        {"messages": [user([{"type": "image", "path": "a.png"}, TEXT]), ANSWER]},
    ),
    "prompt and completion": (
        "prompt-completion",
        {"prompt": "<image>\nWhat is it?", "completion": "a cat", "image": "a.png"},
    ),
    "prompt and completion as messages": (
        "prompt-completion",
        {"prompt": [user([{"type": "image"}, TEXT])], "completion": [ANSWER], "images": ["a.png"]},
    ),
    "LLaVA": (
        "conversations",
        {
            "id": "1",
            "image": "a.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": "a cat"},
            ],
        },
    ),
    "ShareGPT with roles": (
        "conversations",
        {"images": ["a.png"], "conversations": [user("<image>\nWhat is it?"), ANSWER]},
    ),
    "alpaca": ("alpaca", {"instruction": "<image>", "input": "What is it?", "output": "a cat", "images": ["a.png"]}),
    "ms-swift": ("query-response", {"query": "<image>\nWhat is it?", "response": "a cat", "images": ["a.png"]}),
    "ms-swift: image with bytes": (
        "query-response",
        {"query": "What is it?", "response": "a cat", "images": [{"bytes": None, "path": "a.png"}]},
    ),
    "Cauldron, FineVision": (
        "turn-pairs",
        {"images": ["a.png"], "texts": [{"user": "What is it?", "assistant": "a cat"}]},
    ),
    "Mantis": ("conversations", {"images": ["a.png"], "conversation": [user("<image>\nWhat is it?"), ANSWER]}),
    "image in base64": ("columns", {"question": "What is it?", "answer": "a cat", "image": BASE64}),
    "alpaca with a response": (
        "alpaca",
        {"instruction": "<image>", "input": "What is it?", "response": "a cat", "image": "a.png"},
    ),
    "columns with a context": (
        "columns",
        {"context": "<image>", "question": "What is it?", "answer": "a cat", "image": "a.png"},
    ),
    "messages as a cell of a table": (
        "messages",
        {"messages": json.dumps([user("What is it?"), ANSWER]), "images": "['a.png']"},
    ),
    "weights of answers": (
        "messages",
        {"messages": [user("What is it?"), {**ANSWER, "role": "model", "weight": 1}], "images": ["a.png"]},
    ),
    "ms-swift: conversation": (
        "turn-pairs",
        {"conversation": [{"human": "<image>\nWhat is it?", "assistant": "a cat"}], "image": "a.png"},
    ),
    "Axolotl: segments": (
        "segments",
        {
            "segments": [
                {"label": False, "text": "<image>\nWhat is "},
                {"label": False, "text": "it?"},
                {"label": True, "text": "a cat"},
            ],
            "images": ["a.png"],
        },
    ),
    "columns": ("columns", {"question": "What is it?", "answer": "a cat", "image": "a.png"}),
}


def lines(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def opened(path: Path, **options) -> FilesBenchmark:
    found = load_benchmark("files", home=path.parent / "home", folder=path, **options)
    assert isinstance(found, FilesBenchmark)
    return found


def others(count: int = 4) -> list[dict[str, str]]:
    return [{"question": f"How many is {i}?", "answer": str(i)} for i in range(count)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    return tmp_path


@pytest.mark.parametrize("case", SMALLEST)
@pytest.mark.parametrize("form", ["lines", "list"])
def test_each_format_is_recognised_and_gives_the_same_sample(folder, case, form):
    name, record = SMALLEST[case]
    for split in ("train", "test"):
        path = folder / "mine" / f"{split}.json"
        lines(path, record)
        if form == "list":
            path.write_text(json.dumps([record]))
    (folder / "mine" / "a.png").write_bytes(png())
    benchmark = opened(folder / "mine")
    assert benchmark.task_names() == ["mine"]
    task = benchmark.task("mine")
    (sample,) = task.train
    assert (sample.prompt, sample.answer, sample.options) == ("<image>\nWhat is it?", "a cat", None)
    assert benchmark.images.load(sample.images[0]).getpixel((0, 0)) == (7, 0, 0)
    assert benchmark.understood["mine"].formats == {name}


def test_every_format_has_a_smallest_record_here():
    from fedmosaic.registry import FORMATS

    assert {name for name, _ in SMALLEST.values()} == set(FORMATS)


def test_earlier_turns_a_system_message_and_history_are_part_of_the_prompt(folder):
    record = {"query": "And now?", "response": "two", "history": [["First?", "one"]], "system": "Count."}
    path = lines(folder / "train.jsonl", record)
    lines(folder / "test.jsonl", record)
    task = opened(path.parent).task(folder.name)
    assert [sample.prompt for sample in task.train] == ["Count.\nFirst?", "Count.\nFirst?\none\nAnd now?"]


def test_system_messages_have_several_names_and_forms(folder):
    told = [{"role": "developer", "content": "Count."}, user("What?"), ANSWER]
    parts = {"system": [{"type": "text", "text": "Count."}], "messages": [user("What?"), ANSWER]}
    for split, record in (("train", {"messages": told}), ("test", parts)):
        lines(folder / f"{split}.jsonl", record)
    task = opened(folder).task(folder.name)
    assert [sample.prompt for sample in (*task.train, *task.test)] == ["Count.\nWhat?"] * 2


def test_parts_place_images_among_texts_and_take_listed_ones_in_turn(folder):
    (folder / "b.png").write_bytes(png(9))
    shown = [{"type": "text", "text": "Is"}, {"type": "image"}, {"type": "text", "text": "as"}]
    message = user([*shown, {"type": "image_url", "image_url": URI}, {"type": "image"}, {"type": "text", "text": "?"}])
    record = {"messages": [message, ANSWER], "images": ["b.png", "a.png"]}
    for split in ("train", "test"):
        lines(folder / f"{split}.jsonl", record)
    benchmark = opened(folder)
    (sample,) = benchmark.task(folder.name).test
    assert sample.prompt == "Is\n<image>\nas\n<image>\n<image>\n?"
    assert [benchmark.images.load(key).getpixel((0, 0))[0] for key in sample.images] == [9, 7, 7]


def test_images_are_relative_absolute_or_file_uris_below_the_folder(folder):
    (folder / "pictures" / "images").mkdir(parents=True)
    (folder / "pictures" / "images" / "c.png").write_bytes(png(3))
    names = ["images/c.png", "c.png", "pictures/images/c.png", str(folder / "a.png"), (folder / "a.png").as_uri()]
    records = [{"question": f"{i}?", "answer": "x", "image": image} for i, image in enumerate(names)]
    lines(folder / "pictures" / "train.jsonl", *records)
    lines(folder / "pictures" / "test.jsonl", {"question": "q", "answer": "a"})
    benchmark = opened(folder)
    task = benchmark.task("pictures")
    assert {s.images for s in (*task.train, *task.validation)} == {("pictures/images/c.png",), ("a.png",)}


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("https://example.org/a.png", "'https://example.org/a.png' is on the network, and is not fetched"),
        ("../secret.png", "lies outside the data folder"),
        ("/etc/hostname", "lies outside the data folder"),
        ("file:///etc/hostname", "lies outside the data folder"),
        ("none.png", "'none.png' is not below"),
        ({"colour": 1}, "is no image"),
    ],
)
def test_images_that_are_not_allowed_are_named_with_file_and_record(tmp_path, image, words):
    (tmp_path / "secret.png").write_bytes(png())
    path = lines(tmp_path / "data" / "mine.jsonl", *others(), {"question": "q", "answer": "a", "image": image})
    with pytest.raises(DataError) as error:
        opened(path).task("mine")
    assert str(error.value).startswith(f"{path}, record 4 (line 5): ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_data_uri_is_bounded(folder, monkeypatch):
    monkeypatch.setattr("fedmosaic.data.file_images.LONGEST_URI", len(URI) - 1)
    path = lines(folder / "mine.jsonl", {"question": "q", "answer": "a", "image": URI})
    with pytest.raises(DataError, match="characters; expected at most"):
        opened(path).task("mine")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"query": "q", "response": "a"}, "it is 'query-response', but the file's first record is 'columns'"),
        ({"text": "only"}, "its keys \\['text'\\] are of no known format"),
        ({"question": "q", "answer": "a", "tools": ["x"]}, "it has 'tools', which cannot be used"),
        ({"question": "q", "answer": "c", "options": ["a", "b"]}, "'c' is not one of the options"),
        ({"question": "q", "answer": 2, "options": ["a", "b"]}, "the answer is 2; its 2 options are numbered from 0"),
        ({"question": "q", "answer": "a", "metric": "choice"}, "it lists no options"),
        (["no object"], "expected an object"),
        ({"messages": [ANSWER], "conversations": [ANSWER]}, "'conversations' and 'messages' at once"),
        ({"question": "<image> <image>", "answer": "a", "image": "a.png"}, "2 <image> mark"),
    ],
)
def test_bad_records_are_named_and_only_left_out_when_asked(folder, record, words):
    path = lines(folder / "mine.jsonl", *others(), record)
    with pytest.raises(DataError, match=words):
        opened(path).task("mine")
    benchmark = opened(path, skip_bad=True)
    task = benchmark.task("mine")
    assert len(task.train) + len(task.validation) + len(task.test) == 4
    assert len(benchmark.skipped) == 1
    assert benchmark.skipped[0].startswith(f"{path}, record 4 (line 5): ")


def test_damaged_lines_are_named_and_the_others_are_read(folder):
    path = lines(folder / "mine.jsonl", *others())
    path.write_text(path.read_text() + '\n{"question": "q", "answer"}\n' + json.dumps(others(6)[5]))
    benchmark = opened(path, skip_bad=True)
    task = benchmark.task("mine")
    assert len(task.train) + len(task.validation) + len(task.test) == 5
    assert "record 4 (line 5): not valid JSON" in benchmark.skipped[0]


@pytest.mark.parametrize("answer", ["cat", 0, "A", "CAT."])
def test_options_and_answers_are_columns(folder, answer):
    record = {"question": "What?", "answer": answer, "options": ["cat", "dog"]}
    lines(folder / "train.jsonl", record)
    lines(folder / "test.jsonl", {**record, "question": "cat or dog, A or B?", "metric": "choice"})
    task = opened(folder).task(folder.name)
    assert (task.train[0].answer, task.train[0].options) == ("cat", ("cat", "dog"))
    assert task.train[0].prompt == "What?\nChoice list:[cat, dog]"
    assert task.test[0].prompt == "cat or dog, A or B?"


def test_lettered_columns_are_options(folder):
    """As in the tables of VLMEvalKit, with the image in a cell."""
    path = folder / "bench.tsv"
    rows = [["index", "image", "question", "A", "B", "C", "answer"]]
    images = [base64.b64encode(png(i)).decode() for i in range(4)]
    rows += [[str(i), images[i], f"What is {i}?", "cat", "dog, old", "cow" if i else "", "B"] for i in range(4)]
    path.write_text("\n".join("\t".join(row) for row in rows))
    benchmark = opened(path)
    task = benchmark.task("bench")
    assert {sample.answer for sample in task.train} == {"dog, old"}
    assert {sample.options for sample in (*task.train, *task.test)} <= {
        ("cat", "dog, old", "cow"),
        ("cat", "dog, old"),
    }
    assert task.train[-1].prompt.endswith('\nChoice list:[cat, "dog, old", cow]')
    assert benchmark.notes == []


@pytest.mark.parametrize(
    ("cells", "letters"),
    [
        ({"A": "cat", "B": "dog", "C": "", "D": "cow"}, "A, B, D"),
        ({"A": "cat", "B": "dog", "D": "cow"}, "A, B, D"),
        ({"A": None, "B": "dog", "C": "cow"}, "B, C"),
        ({"A": "cat", "B": None, "C": None}, "A"),
    ],
)
def test_a_column_of_options_that_is_left_out_is_refused(folder, cells, letters):
    whole = [{"question": f"{i}?", "A": "cat", "B": "dog", "C": "cow", "D": "hen", "answer": "D"} for i in range(4)]
    path = lines(folder / "mine.jsonl", *whole, {"question": "which?", **cells, "answer": "A"})
    with pytest.raises(DataError, match=f"record 4 .line 5.: its options are in the columns {letters}; expected A, B"):
        opened(path).task("mine")
    benchmark = opened(path, skip_bad=True)
    task = benchmark.task("mine")
    assert {sample.answer for sample in (*task.train, *task.validation, *task.test)} == {"hen"}
    assert len(benchmark.skipped) == 1


@pytest.mark.parametrize(
    "cells",
    [
        {"X": 1, "Y": 2},
        {"A": 1},
        {"A": None, "B": None, "C": None},
        {"B": 1, "C": 2},
    ],
)
def test_other_columns_of_one_letter_are_no_options(folder, cells):
    path = lines(folder / "mine.jsonl", *({"question": f"{i}?", "answer": "D", **cells} for i in range(3)))
    assert {(sample.answer, sample.options) for sample in opened(path).task("mine").train} == {("D", None)}


def test_letters_beside_a_list_of_options_are_none(folder):
    record = {"answer": "b", "options": ["a", "b"], "A": 1, "C": 2}
    path = lines(folder / "mine.jsonl", *({"question": f"{i}?", **record} for i in range(3)))
    assert opened(path).task("mine").train[0].options == ("a", "b")


def test_the_answer_is_read_from_the_answer_alone(folder):
    record = {"question": "cat or dog?", "answer": "dog", "label": 0, "solution": "A", "options": ["cat", "dog"]}
    for split in ("train", "test"):
        lines(folder / f"{split}.jsonl", record)
    benchmark = opened(folder)
    assert benchmark.task(folder.name).test[0].answer == "dog"
    assert "label (2), solution (2)" in benchmark.notes[-1]


@pytest.mark.parametrize(
    ("answer", "options", "chosen"),
    [
        (2.0, None, "2"),
        (2, None, "2"),
        (2.5, None, "2.5"),
        ("2.0", None, "2.0"),
        (1e300, None, "1e+300"),
        (1.0, ["cat", "dog"], "dog"),
        (1.0, {"1": "cat", "2": "dog"}, "cat"),
        (2.0, [0.5, 2.0], "2"),
        (1.0, ["0.5", "1.0"], "1.0"),  # by its place and by its number
        (4.0, ["2.0", "4.0"], "4.0"),  # no place
    ],
)
def test_whole_numbers_are_read_alike_however_they_are_stored(folder, answer, options, chosen):
    path = lines(folder / "mine.jsonl", *({"question": f"{i}?", "answer": answer, "options": options} for i in "ab"))
    assert opened(path).task("mine").train[0].answer == chosen


def test_a_metric_column_makes_answers_open(folder):
    for split in ("train", "test"):
        lines(folder / f"{split}.jsonl", {"question": "yes or no?", "answer": "yes", "metric": "f1"})
    assert opened(folder).task(folder.name).test[0].options is None


@pytest.mark.parametrize(("ending", "sign"), [("csv", ","), ("tsv", "\t"), ("txt", ";")])
def test_tables_have_columns_with_usual_names_or_named_ones(folder, ending, sign):
    rows = [["frage", "antwort", "bild", "wahl", "extra"]]
    rows += [[f"Was ist {i}?", "ein Hund", "a.png" if i else "", "eine Katze|ein Hund", "x"] for i in range(5)]
    path = folder / f"tier.{ending}"
    path.write_text("\n".join(sign.join(row) for row in rows))
    with pytest.raises(DataError, match="of no known format"):
        opened(path).task("tier")
    columns = {"question": "frage", "answer": "antwort", "image": "bild", "options": "wahl"}
    benchmark = opened(path, columns=columns)
    task = benchmark.task("tier")
    every = [*task.train, *task.validation, *task.test]
    assert {sample.options for sample in every} == {("eine Katze", "ein Hund")}
    assert sum(len(sample.images) for sample in every) == 4
    assert benchmark.notes[-1] == "tier: not used, with the number of records that have it: extra (5)"
    with pytest.raises(DataError, match="no record has 'bilder'"):
        opened(path, columns={**columns, "image": "bilder"}).task("tier")
    with pytest.raises(DataError, match="it has no 'frage ', which is to be the question"):
        opened(path, columns={**columns, "question": "frage "}).task("tier")
    with pytest.raises(SettingsError, match="columns: unknown 'questoin'; did you mean 'question'"):
        opened(path, columns={"questoin": "frage"})


def test_rows_with_too_many_cells_are_named(folder):
    path = folder / "t.csv"
    path.write_text("question,answer\nq0,a\nq1,a,b\nq2,a\n")
    benchmark = opened(path, skip_bad=True)
    benchmark.task("t")
    assert benchmark.skipped == [f"{path}, record 1 (line 3): it has 3 cells, the first line names 2"]


def test_a_file_is_divided_so_that_splits_share_no_image(folder):
    for i in range(10):
        (folder / f"{i}.png").write_bytes(png(i))
    records = [{"question": f"What {i}?", "answer": "a", "image": f"{i % 10}.png"} for i in range(40)]
    task = opened(lines(folder / "mine.jsonl", *records)).task("mine")
    shown = [{sample.images for sample in split} for split in (task.train, task.validation, task.test)]
    assert [len(split) for split in (task.train, task.validation, task.test)] == [32, 0, 8] or len(shown[1])
    assert not shown[0] & shown[1] and not shown[0] & shown[2] and not shown[1] & shown[2]
    assert len(task.test) == 8


def test_a_column_divides_a_file_into_tasks(folder):
    records = [{**record, "ward": "ab"[i % 2], "n": i} for i, record in enumerate(others(20))]
    benchmark = opened(lines(folder / "mine.jsonl", *records), columns={"task": "ward"})
    assert benchmark.task_names() == ["mine/a", "mine/b"]
    task = benchmark.task("mine/b")
    every = [*task.train, *task.validation, *task.test]
    assert sorted(int(sample.answer) for sample in every) == list(range(1, 20, 2))
    with pytest.raises(SettingsError, match="unknown task 'mine/c'"):
        benchmark.task("mine/c")


def test_llama_factory_tells_files_columns_and_tags(folder):
    lines(folder / "one.json", *({"ask": f"{i}?", "say": "y", "pics": ["a.png"]} for i in range(2)))
    turns = [{"who": "person", "what": "<image>?"}, {"who": "machine", "what": "yes"}]
    lines(folder / "two.json", {"talk": turns, "images": ["a.png"]}, {"talk": [{**turns[0], "what": "b"}, turns[1]]})
    table = {
        "first": {"file_name": "one.json", "columns": {"prompt": "ask", "response": "say", "images": "pics"}},
        "second": {
            "file_name": "two.json",
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "images": "images"},
            "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "person", "assistant_tag": "machine"},
        },
        "remote": {"hf_hub_url": "some/where"},
    }
    (folder / "dataset_info.json").write_text(json.dumps(table))
    benchmark = opened(folder)
    assert benchmark.task_names() == ["first", "second"]
    assert {sample.answer for sample in benchmark.task("second").train} == {"yes"}
    with pytest.raises(DataError, match="without the same images"):
        benchmark.task("first")
    table["first"]["file_name"] = "../one.json"
    (folder / "dataset_info.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match="which is outside"):
        opened(folder)


def test_folders_of_classes_and_of_metadata_are_read_without_a_library(folder):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for i in range(2):
                path = folder / "pets" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(len(split) * 20 + len(name) + 10 * i))
        (folder / "meta" / split).mkdir(parents=True)
        (folder / "meta" / split / "0.png").write_bytes(png(len(split)))
        lines(folder / "meta" / split / "metadata.jsonl", {"file_name": "0.png", "question": "q?", "answer": "a"})
    benchmark = opened(folder)
    assert sorted(benchmark.task_names()) == ["meta", "pets"]
    pets = benchmark.task("pets")
    assert {sample.options for sample in pets.test} == {("cat", "dog")}
    assert len(pets.train) + len(pets.validation) == len(pets.test) == 4
    assert benchmark.task("meta").test[0].images == ("meta/test/0.png",)


def test_splits_and_shards_are_one_task_and_other_files_a_task_each(folder):
    for name in ("vqa_train", "vqa_test", "train-00000-of-00002", "train-00001-of-00002", "validation", "alone"):
        lines(folder / "all" / f"{name}.jsonl", *others(5))
    (folder / "all" / "README.md").write_text("no data")
    benchmark = opened(folder / "all")
    assert sorted(benchmark.task_names()) == ["all", "alone", "vqa"]
    task = benchmark.task("all")
    assert len(task.train) + len(task.test) == 10
    assert len(task.validation) == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04 a zip", "a file of no known form"),
        (b"[]", "expected a JSON list of records"),
        (b"one column\nonly\n", "a file of no known form"),
        (b"question,question\na,b\n", "a name of its own for each column"),
    ],
)
def test_files_of_no_known_form_are_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        opened(path).task("mine")
    assert str(path) in str(error.value)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DataError, match=r"none\.json is missing"):
        opened(tmp_path / "none.json").task("none")
    with pytest.raises(DataError, match="holds no data files"):
        opened(tmp_path)
