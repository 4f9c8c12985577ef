"""Odd, damaged and hostile files: one line that names the file and what to do, never a wrong sample."""

import base64
import io
import json
import random
import re
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from fedmosaic.data.checking import check_data
from fedmosaic.data.files import FilesBenchmark
from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError
from fedmosaic.serving.messages import asked

TURNS = [{"role": "user", "content": "q?"}, {"role": "assistant", "content": "a"}]


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (7, 0, 0)).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 2 KB whose header says 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def read(path: Path, **options) -> list[Sample]:
    task = FilesBenchmark(path, **options).task(path.stem)
    return [*task.train, *task.validation, *task.test]


def written(path: Path, *records: object) -> Path:
    good = [{"question": f"How many is {i}?", "answer": str(i)} for i in range(4)] if len(records) == 1 else []
    path.write_text("\n".join(map(json.dumps, [*good, *records])))
    return path


ROWS = ["question,answer", "Wie groß?,klein", "Wie alt?,jung", "Wo?,dort"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + "\n".join(ROWS).encode(),
        "\r\n".join(ROWS).encode(),
        ("\r\n\r\n" + "\r\n".join(ROWS) + "\r\n,\r\n\r\n").encode(),
        "\n".join(row.replace(",", ";") for row in ROWS).encode(),
        "\n".join('"' + row.replace(",", '"\t"') + '"' for row in ROWS).encode(),
        "\n".join(['"question","answer"', *ROWS[1:]]).encode(),
    ],
    ids=["byte-order mark", "CRLF", "empty lines", "semicolons", "tabs and quotes", "quoted names"],
)
def test_tables_are_read_however_they_were_saved(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    assert {(sample.prompt, sample.answer) for sample in read(tmp_path / "t.csv")} == {
        ("Wie groß?", "klein"),
        ("Wie alt?", "jung"),
        ("Wo?", "dort"),
    }


@pytest.mark.parametrize("form", ["lines", "list"])
def test_json_with_a_byte_order_mark_and_carriage_returns_is_read(tmp_path, form):
    records = [json.dumps({"question": f"{i}?", "answer": "a"}) for i in range(5)]
    text = "\r\n".join(records) if form == "lines" else "[\r\n" + ",\r\n".join(records) + "\r\n]\r\n"
    (tmp_path / "t.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read(tmp_path / "t.json")) == 5


def test_a_json_list_is_streamed_and_damage_is_named_by_record(tmp_path, monkeypatch):
    monkeypatch.setattr("fedmosaic.data.json_list._CHUNK", 16)
    records = [json.dumps({"question": f"{i} [{{?", "answer": 'a"]'}) for i in range(50)]
    path = tmp_path / "t.json"
    path.write_text("[" + " ,\n".join(records) + "]")
    assert len(read(path)) == 50
    path.write_text("[" + ",\n".join([*records[:20], '{"question": "x" "answer"}', *records[21:]]) + "]")
    with pytest.raises(DataError, match="record 20: not valid JSON"):
        read(path)
    path.write_text("[" + ",\n".join(records) + "]\n[]")
    with pytest.raises(DataError, match="record 50: after the list comes more text"):
        read(path)
    path.write_text("[" + ",\n".join(records))
    with pytest.raises(DataError, match="truncated"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", "\ufeffquestion\tanswer\r\na\tb\r\n".encode("utf-16-le"), "seems to be UTF-16; save it as UTF-8"),
        ("t.json", '{"question": "q"}'.encode("utf-16-le"), "seems to be UTF-16"),
        ("t.csv", "question,answer\ngroß,ja\nq,a\n".encode("latin-1"), "no UTF-8"),
        ("t.jsonl", '{"question": "groß", "answer": "a"}'.encode("latin-1"), "no UTF-8"),
        ("t.csv", b'question,answer\n"q,a\nq,a\n', "check the quotes"),
        ("t.csv", b"question,answer\nq\n", "it has 1 cells"),
        ("t.csv", b"question,answer\n", "no usable record"),
        ("t.json", b"[" * 5000, "nested too deeply|truncated|not valid JSON"),
        ("t.json", b'{"question": ' + b"9" * 5000 + b"}", "not valid JSON"),
        ("t.json", b"<html><body>404</body></html>", "no known form"),
        ("t.parquet", b"PAR1 and no more", "no readable Parquet|pyarrow"),
    ],
)
def test_files_in_other_encodings_or_damaged_ones_are_refused_in_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"question": "q", "answer": float("nan")}, "'answer' is nan, which stands for a missing value"),
        ({"question": float("nan"), "answer": "a"}, "'question' is nan"),
        ({"question": "q", "answer": True}, "'answer' is True; expected a text"),
        ({"question": "q", "answer": "a", "options": ["a", None]}, "one of its options is None"),
        ({"question": "q", "answer": "a", "options": "[a, b]"}, "no JSON list"),
        ({"question": "q", "answer": "a", "options": "['a' 'b']"}, "1 option"),  # as numpy prints two
        ({"question": "q", "answer": "a", "options": {"text": ["a"], "label": ["A", "B"]}}, "as many of each"),
        ({"question": "q", "answer": "0", "options": "a|b"}, "give the text of one, or its letter"),
        ({"question": "q", "answer": 1, "options": ["0", "5", "1"]}, "the text of one option and the letter or place"),
        ({"question": "q", "answer": "A", "options": ["B", "A"]}, "the text of one option and the letter or place"),
        ({"prompt": "q", "completion": "a", "label": False}, "it has 'label', which cannot be used"),
        ({"question": "q\x00", "answer": "a"}, "control character"),
        (
            {"question": "q", "answer": "a", "image": base64.b64encode(b"x" * 300).decode()},
            "cannot be looked for|below",
        ),
        ({"question": "q", "answer": "a", "image": ["a.png", 3]}, "is no image"),
        ({"messages": [{"role": "user", "content": [{"type": ["a"], "text": "q"}]}, TURNS[1]]}, "has a part"),
        ({"messages": TURNS * 2 + TURNS[:1]}, "ends with a question"),
        ({"messages": [TURNS[0], {**TURNS[1], "weight": 0}]}, "'weight'"),
        ({"messages": [TURNS[0], {"role": "tool", "content": "x"}, TURNS[1]]}, "is by 'tool'"),
        ({"instruction": "q", "output": "a", "response": "b"}, "'output' and 'response' disagree"),
        ({"messages": [{**TURNS[0], "value": "x"}, TURNS[1]]}, "turn 1 has 'value' and 'content', which disagree"),
        ({"messages": [TURNS[0], {**TURNS[1], "from": "human"}]}, "turn 2 has 'from' and 'role', which disagree"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q", "value": "x"}]}, TURNS[1]]},
            "a part of turn 1 has 'text' and 'value', which disagree",
        ),
        (
            {"conversation": [{"human": "q", "assistant": "a"}], "texts": [{"user": "q", "assistant": "b"}]},
            "the record has 'conversation' and 'texts', which disagree",
        ),
        ({"question": "q", "answer": 1, "options": ["1.0", "2.0"]}, "the text of one option and the letter or place"),
        ({"question": "q", "answer": 1.0, "options": ["1.0", "2.0"]}, "the text of one option and the letter or place"),
    ],
)
def test_records_that_would_make_a_wrong_sample_are_refused(tmp_path, record, words):
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, [record, record])))
    with pytest.raises(DataError, match=words) as error:
        read(path)
    assert "record 0 (line 1)" in str(error.value)
    assert "\n" not in str(error.value)


def test_keys_that_say_the_same_or_nothing_do_not_disagree(tmp_path):
    said = {"role": "assistant", "from": None, "content": "", "value": "a"}  # as Parquet has every key in every row
    questions = ({"role": "user", "from": "user", "content": f"q{i}", "value": None} for i in range(3))
    found = read(written(tmp_path / "t.jsonl", *({"messages": [each, said]} for each in questions)))
    assert {(sample.prompt, sample.answer) for sample in found} == {(f"q{i}", "a") for i in range(3)}


def test_a_served_request_whose_keys_disagree_is_refused_as_a_record_is():
    with pytest.raises(DataError, match="turn 1 has 'value' and 'content', which disagree"):
        asked([{"role": "user", "content": "q", "value": "x"}])


def test_an_endless_text_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fedmosaic.data.reading.LONGEST_TEXT", 99)
    with pytest.raises(DataError, match=r"record 4 .*it has 101 characters of text; expected at most 99"):
        read(written(tmp_path / "t.jsonl", {"question": "q" * 100, "answer": "a"}))


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(bomb())
    uri = f"data:image/png;base64,{base64.b64encode(bomb()).decode()}"
    for image in ("bomb.png", uri):
        with pytest.raises(DataError, match=r"record 4 .*(30,000|30000)"):
            read(written(tmp_path / "t.jsonl", {"question": "q", "answer": "a", "image": image}))


def test_a_link_out_of_the_folder_is_followed_but_no_path_leaves_it(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(png())
    (tmp_path / "data").mkdir()
    record = {"question": "q", "answer": "a", "image": "link.png"}
    path = written(tmp_path / "data" / "t.jsonl", record)
    with pytest.raises(DataError, match=r"'link\.png' is not below"):
        read(path)
    (path.parent / "link.png").symlink_to(tmp_path / "elsewhere" / "a.png")  # the owner placed it
    assert sum(len(sample.images) for sample in read(path)) == 1
    written(path, {**record, "image": "../elsewhere/a.png"})
    with pytest.raises(DataError, match="lies outside the data folder"):
        read(path)
    (path.parent / "loop").symlink_to(path.parent)
    (path.parent / "gone.jsonl").symlink_to(tmp_path / "nothing")
    assert "t" in FilesBenchmark(path.parent).task_names()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["vqa.json", "vqa.csv"], "are both train of task 'vqa'"),
        (["vqa.json", "vqa_train.json"], "are both train of task 'vqa'"),
        (["train.json", "dev.json", "val.json"], "are both validation of task"),
        (["train/a.json", "train.json"], "are both train of task"),
        (["a.txt", "b.gz"], "holds no data files"),
    ],
)
def test_files_that_might_be_counted_twice_are_named(tmp_path, names, words):
    for name in names:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path / "mine" / name, {"question": name, "answer": "a"})
    with pytest.raises(DataError, match=words):
        FilesBenchmark(tmp_path / "mine")


def test_parts_make_one_split_and_missing_ones_are_told(tmp_path):
    for name in ("train/0000.json", "train/0001.json", "test/0000.json", "b-00000-of-00003.json"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path / "mine" / name, {"question": name, "answer": "a"})
    benchmark = FilesBenchmark(tmp_path / "mine")
    assert benchmark.task_names() == ["b", "mine"]
    assert len(benchmark.task("mine").train) + len(benchmark.task("mine").validation) == 10
    benchmark.task("b")
    assert "b: 1 of 3 parts of train are there" in benchmark.notes


def test_folders_of_splits_may_hold_a_file_for_each_task(tmp_path):
    for split in ("train", "test"):
        for name in ("vqa", "caption"):
            (tmp_path / split).mkdir(exist_ok=True)
            written(tmp_path / split / f"{name}.jsonl", {"question": f"{split} {name}?", "answer": "a"})
    benchmark = FilesBenchmark(tmp_path)
    assert benchmark.task_names() == ["caption", "vqa"]
    assert "test vqa?" in {sample.prompt for sample in benchmark.task("vqa").test}


def test_class_folders_tell_what_they_do_not_read_and_splits_share_their_classes(tmp_path):
    for place in ("train/cat", "train/dog", "test/cat", "test/cat/more"):
        for i in range(3):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (len(place), i, 0)).save(tmp_path / place / f"{i}.png")
    with pytest.raises(DataError, match="folder cat/more: it is in the folder of a class"):
        FilesBenchmark(tmp_path).task(tmp_path.name)
    benchmark = FilesBenchmark(tmp_path, skip_bad=True)
    assert {sample.options for sample in benchmark.task(tmp_path.name).test} == {("cat", "dog")}
    assert len(benchmark.skipped) == 1


@pytest.mark.parametrize("names", ["ABCDEFGHIKLMNOPQRSTUVWXY", ["label", "text", "figure"], ["2", "1", "0"]])
def test_classes_are_what_their_folders_are_called(tmp_path, names):
    """The letters of sign language have gaps: J and Z are movements."""
    for place, name in enumerate(names):
        for i in range(2):
            (tmp_path / "signs" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (place, i, 0)).save(tmp_path / "signs" / name / f"{i}.png")
    benchmark = FilesBenchmark(tmp_path / "signs")
    task = benchmark.task("signs")
    samples = (*task.train, *task.validation, *task.test)
    assert {sample.options for sample in samples} == {tuple(sorted(names))}
    shown = {(benchmark.images.load(sample.images[0]).getpixel((0, 0))[0], sample.answer) for sample in samples}
    assert shown == set(enumerate(names))


def test_metadata_beside_class_folders_say_what_the_images_show(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (4, 4), (len(name) + ord(name[0]), i, 0)).save(tmp_path / name / f"{i}.png")
    rows = [f"{name}/{i}.png,Is it a cat?,{name == 'cat'}!" for name in ("cat", "dog") for i in range(2)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,question,answer", *rows]))
    benchmark = FilesBenchmark(tmp_path)
    assert benchmark.task_names() == [tmp_path.name]
    assert {sample.answer for sample in benchmark.task(tmp_path.name).train} <= {"True!", "False!"}


def test_a_value_of_the_task_column_may_be_no_other_file_and_holds_no_control_characters(tmp_path):
    records = [{"question": f"{i}?", "answer": "a", "ward": "b"} for i in range(4)]
    (tmp_path / "a").mkdir()
    for name in ("a.jsonl", "a/b.jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(DataError, match="'a/b' is a value of the task column in 'a' and a file"):
        FilesBenchmark(tmp_path, columns={"task": "ward"}).task_names()
    path = written(tmp_path / "t.jsonl", {**records[0], "ward": "\x1b[31m"}, {**records[1], "ward": "x"})
    with pytest.raises(DataError, match="the task column 'ward' holds U\\+001B"):
        FilesBenchmark(path, columns={"task": "ward"}).task_names()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"columns": ["a"]}, "has columns \\['a'\\]; expected names"),
        ({"tags": {"role_tag": 1}, "formatting": "sharegpt"}, "expected names"),
        ({"formatting": "pdf"}, "has the formatting 'pdf'"),
        ({"ranking": True}, "answers that are preferred"),
    ],
)
def test_what_llama_factory_says_of_one_dataset_does_not_stop_the_others(tmp_path, told, words):
    written(tmp_path / "one.json", {"instruction": "q", "output": "a"}, {"instruction": "p", "output": "a"})
    table = {"one": {"file_name": "one.json"}, "two": {"file_name": "one.json", **told}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(table))
    benchmark = FilesBenchmark(tmp_path)
    assert len(benchmark.task("one").train) == 1
    with pytest.raises(DataError, match=words):
        benchmark.task("two")
    assert FilesBenchmark(tmp_path / "dataset_info.json").task_names() == ["one", "two"]


def test_columns_of_llama_factory_win_over_keys_with_usual_names(tmp_path):
    records = [{"ask": f"right {i}?", "instruction": "wrong", "output": "a"} for i in range(4)]
    (tmp_path / "one.json").write_text(json.dumps(records))
    table = {"one": {"file_name": "one.json", "columns": {"prompt": "ask"}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(table))
    for path in (tmp_path, tmp_path / "one.json"):
        assert {sample.prompt[:5] for sample in FilesBenchmark(path).task("one").train} == {"right"}


@pytest.mark.parametrize(
    ("columns", "asked", "answer"),
    [
        ({"prompt": "question", "response": "answer"}, "what is it?", "two"),
        ({"prompt": "input", "response": "output"}, "source", "b"),
        ({"prompt": "question", "query": "input", "response": "answer"}, "what is it?\nsource", "two"),
        ({}, "do it\nsource", "b"),
    ],
)
def test_columns_of_llama_factory_that_are_not_named_are_not_there(tmp_path, columns, asked, answer):
    """As its parser has it: where ``columns`` is given, query, history and system are what it says, or nothing."""
    keys = {"question": "what is it?", "answer": "two", "instruction": "do it", "input": "source", "output": "b"}
    records = [{key: f"{value} {i}" for key, value in keys.items()} for i in range(4)]
    if columns:
        records = [each | {"history": [["before?", "then"]], "system": "be brief"} for each in records]
    (tmp_path / "one.json").write_text(json.dumps(records))
    table = {"one": {"file_name": "one.json", **({"columns": columns} if columns else {})}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(table))
    task = FilesBenchmark(tmp_path).task("one")
    read = {
        tuple(re.sub(r" \d", "", text) for text in (each.prompt, each.answer)) for each in (*task.train, *task.test)
    }
    assert read == {(asked, answer)}


def test_pictures_in_records_need_not_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("fedmosaic.data.embedded_store.IN_MEMORY", 100)
    records = []
    for level in range(6):
        file = io.BytesIO()
        Image.new("RGB", (4, 4), (level, 0, 0)).save(file, "PNG")
        uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        records.append({"question": f"{level}?", "answer": "a", "image": uri})
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    benchmark = FilesBenchmark(path)
    benchmark.images.remember(tmp_path / "home")
    task = benchmark.task("t")
    for sample in (*task.train, *task.validation, *task.test):
        assert benchmark.images.load(sample.images[0]).getpixel((0, 0)) == (int(sample.prompt[-2]), 0, 0)
    assert len(benchmark.images.keys()) == 6
    assert not list((tmp_path / "home" / "embedded").iterdir())


SEEDS = {
    "t.jsonl": b'{"question": "q1", "answer": "a", "image": "x.png"}\n'
    b'{"question": "q", "answer": 1, "options": ["a", "b"]}',
    "t.json": b'[{"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]}, '
    b'{"role": "assistant", "content": "a"}], "images": ["x.png"]}, {"messages": []}]',
    "t.csv": b'question,answer,options,image\nq1,a,a|b,x.png\nq2,"b, c","x|b, c",\n',
    "l.json": b'[{"id": 1, "image": "x.png", "conversations": '
    b'[{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]',
    "s.jsonl": b'{"segments": [{"label": false, "text": "q"}, {"label": true, "text": "a"}], '
    b'"system": [{"type": "text"}]}',
    "p.json": b'[{"texts": [{"user": "q", "assistant": "a"}], "images": [{"bytes": null, "path": "x.png"}]}]',
}
VALUES = (
    b'null true [] {} "" NaN 1e999 -1 "<image>" ["a"] {"type":"image"} "\\ud800" "\\u0000" {"url":"http://x"}'.split()
)


@pytest.mark.parametrize("name", SEEDS)
def test_whatever_is_in_a_file_it_is_read_or_refused_in_one_line(tmp_path, name):
    draw = random.Random(name)
    (tmp_path / "x.png").write_bytes(png())
    for _ in range(30):
        content = SEEDS[name]
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(content))
            spans = [match.span() for match in re.finditer(rb'"[^"]*"|\d+|null', content)] or [(at, at)]
            start, end = draw.choice([(at, at + 1), (at, at + draw.randint(1, 20)), *spans])
            content = (
                content[:start] + draw.choice([b"", bytes([draw.randrange(256)]), *VALUES]) + content[end:] or b"x"
            )
        (tmp_path / name).write_bytes(content)
        try:
            report = check_data(tmp_path / name)
        except DataError as error:
            assert "\n" not in str(error), content
            continue
        assert not any("\n" in line for line in (*report.problems, *report.notes)), content
        for task in (task for file in report.files for task in file.tasks):
            assert all(s.answer not in ("nan", "None") for s in (*task.train, *task.validation, *task.test)), content
