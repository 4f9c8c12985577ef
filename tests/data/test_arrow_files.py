"""Parquet, and folders as ``save_to_disk`` writes them; what is said where pyarrow is missing."""

import importlib.util
import io
import json
import sys

import pytest
from PIL import Image

from fedmosaic.data.files import FilesBenchmark
from fedmosaic.errors import DataError

INSTALLED = importlib.util.find_spec("pyarrow") is not None


def rows() -> list[dict[str, object]]:
    found = []
    for i in range(10):
        file = io.BytesIO()
        Image.new("RGB", (4, 4), (i, 0, 0)).save(file, "PNG")
        image = {"bytes": file.getvalue(), "path": None}
        found.append({"question": f"What is {i}?", "image": image, "label": i % 2})
    return found


def table():
    import pyarrow

    info = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    return pyarrow.Table.from_pylist(rows()).replace_schema_metadata({"huggingface": json.dumps(info)})


def check(benchmark: FilesBenchmark, name: str) -> None:
    task = benchmark.task(name)
    every = [*task.train, *task.validation, *task.test]
    assert sorted(sample.prompt for sample in every) == [f"<image>\nWhat is {i}?" for i in range(10)]
    assert {sample.answer for sample in every} == {"cat", "dog"}
    for sample in every:
        number = int(sample.prompt[-2])
        assert benchmark.images.load(sample.images[0]).getpixel((0, 0)) == (number, 0, 0)
        assert sample.answer == ("cat", "dog")[number % 2]


@pytest.mark.skipif(not INSTALLED, reason="needs pyarrow")
def test_parquet_with_images_and_classes_is_read(tmp_path):
    import pyarrow.parquet

    pyarrow.parquet.write_table(table(), tmp_path / "mine.parquet")
    check(FilesBenchmark(tmp_path / "mine.parquet"), "mine")


@pytest.mark.skipif(not INSTALLED, reason="needs pyarrow")
def test_a_saved_dataset_is_read_from_all_its_files(tmp_path):
    import pyarrow

    folder = tmp_path / "saved"
    folder.mkdir()
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (table().slice(0, 6), table().slice(6)), strict=True):
        with (folder / name).open("wb") as file, pyarrow.ipc.new_stream(file, part.schema) as stream:
            stream.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    check(FilesBenchmark(folder), "saved")
    (folder / "state.json").write_text(json.dumps({**state, "_indices_data_files": [{"filename": "x"}]}))
    with pytest.raises(DataError, match="flatten_indices"):
        FilesBenchmark(folder).task("saved")


@pytest.mark.skipif(not INSTALLED, reason="needs pyarrow")
@pytest.mark.parametrize("number", [-1, 2])
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_number_of_no_class_is_refused(tmp_path, number, form):
    """Hugging Face's test splits without labels have -1."""
    import pyarrow.parquet

    whole = table()
    labels = pyarrow.array([*(i % 2 for i in range(9)), number])
    whole = whole.set_column(whole.schema.get_field_index("label"), "label", labels)
    path = tmp_path / "mine"
    if form == "parquet":
        pyarrow.parquet.write_table(whole, path)
    else:
        path.mkdir()
        (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
        with (path / "data.arrow").open("wb") as file, pyarrow.ipc.new_stream(file, whole.schema) as stream:
            stream.write_table(whole)
    with pytest.raises(DataError, match=rf"record 9: its 'label' is {number}, which is no class; expected 0 to 1, for"):
        FilesBenchmark(path).task("mine")
    benchmark = FilesBenchmark(path, skip_bad=True)
    task = benchmark.task("mine")
    every = [*task.train, *task.validation, *task.test]
    assert ({sample.answer for sample in every}, len(every)) == ({"cat", "dog"}, 9)
    assert len(benchmark.skipped) == 1


@pytest.mark.skipif(not INSTALLED, reason="needs pyarrow")
@pytest.mark.parametrize("kind", ["int64", "float64"])  # with an empty cell, pandas makes floats of whole numbers
def test_whole_numbers_in_a_column_with_empty_cells_are_whole(tmp_path, kind):
    import pyarrow.parquet

    questions = [f"{i}?" for i in range(4)]
    answers = pyarrow.array([1, 0, None, 1], getattr(pyarrow, kind)())
    for name, columns in (("open", {}), ("choice", {"options": [["cat", "dog"]] * 4})):
        made = pyarrow.table({"question": questions, "answer": answers, **columns})
        pyarrow.parquet.write_table(made, tmp_path / f"{name}.parquet")
    benchmark = FilesBenchmark(tmp_path, skip_bad=True)
    for name, expected in (("open", ["1", "0", "1"]), ("choice", ["dog", "cat", "dog"])):
        task = benchmark.task(name)
        found = {sample.prompt[:1]: sample.answer for sample in (*task.train, *task.validation, *task.test)}
        assert found == dict(zip("013", expected, strict=True))


def test_without_the_library_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = tmp_path / "mine.parquet"
    path.write_bytes(b"PAR1 and so on")
    with pytest.raises(DataError, match=r"needs pyarrow, which is not installed: pip install 'fedmosaic\[parquet\]'"):
        FilesBenchmark(path).task("mine")


@pytest.mark.skipif(not INSTALLED, reason="needs pyarrow")
def test_a_file_that_unpacks_to_far_more_than_it_holds_is_refused(tmp_path, monkeypatch):
    import pyarrow.parquet

    monkeypatch.setattr("fedmosaic.data.readers.arrow._MOST", 2**20)
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 500, pyarrow.int32()), ["x" * 10_000])
    bomb = pyarrow.table({"question": texts, "answer": ["a"] * 500})
    pyarrow.parquet.write_table(bomb, tmp_path / "mine.parquet", compression="zstd")
    with pytest.raises(DataError, match="unpacks to more than 1,048,576 bytes, 200 times its size") as error:
        FilesBenchmark(tmp_path / "mine.parquet").task("mine")
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs pyarrow")
def test_a_column_that_repeats_a_long_text_is_read_in_few_rows(tmp_path):
    import pyarrow.parquet

    from fedmosaic.data.readers.parquet import _rows_at_once

    long = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100, pyarrow.int32()), ["x" * 80_000_000])
    pyarrow.parquet.write_table(pyarrow.table({"question": long}), tmp_path / "long.parquet", compression="zstd")
    assert _rows_at_once(pyarrow.parquet.ParquetFile(tmp_path / "long.parquet").metadata) == 26


@pytest.mark.skipif(not INSTALLED, reason="needs pyarrow")
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "'answer' is nan"),
        (True, "'answer' is True"),
        (b"\xff", "expected a text"),
        ([1], "expected a text"),
    ],
)
def test_cells_that_are_no_answers_are_refused(tmp_path, value, words):
    import pyarrow.parquet

    found = pyarrow.table({"question": ["a", "b"], "answer": [value, value]})
    pyarrow.parquet.write_table(found, tmp_path / "mine.parquet")
    with pytest.raises(DataError, match=f"record 0: {words}|record 0: .*{words}"):
        FilesBenchmark(tmp_path / "mine.parquet").task("mine")


@pytest.mark.skipif(not INSTALLED, reason="needs pyarrow")
def test_a_damaged_file_is_one_line(tmp_path):
    import pyarrow.parquet

    pyarrow.parquet.write_table(table(), tmp_path / "mine.parquet")
    content = bytearray((tmp_path / "mine.parquet").read_bytes())
    for place in range(10, len(content), 97):
        content[place] ^= 0xFF
    (tmp_path / "mine.parquet").write_bytes(content)
    with pytest.raises(DataError) as error:
        FilesBenchmark(tmp_path / "mine.parquet").task("mine")
    assert "\n" not in str(error.value)


def test_what_the_datasets_library_saves_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features(
        {
            "question": datasets.Value("string"),
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    whole = datasets.Dataset.from_list(rows(), features=kinds)
    whole.save_to_disk(tmp_path / "saved", num_shards=2)
    check(FilesBenchmark(tmp_path / "saved"), "saved")
    whole.to_parquet(tmp_path / "mine.parquet")
    check(FilesBenchmark(tmp_path / "mine.parquet"), "mine")
    datasets.DatasetDict(train=whole, test=whole.select(range(2))).save_to_disk(tmp_path / "both")
    task = FilesBenchmark(tmp_path / "both").task("both")
    assert (len(task.train) + len(task.validation), len(task.test)) == (10, 2)
    whole.shuffle(seed=0).select(range(4)).save_to_disk(tmp_path / "chosen")  # the library writes the chosen rows
    chosen = FilesBenchmark(tmp_path / "chosen").task("chosen")
    assert len(chosen.train) + len(chosen.validation) + len(chosen.test) == 4


@pytest.mark.slow
def test_folders_of_classes_are_read_as_the_datasets_library_does(tmp_path):
    datasets = pytest.importorskip("datasets")
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for i in range(3):
                (tmp_path / "pets" / split / name).mkdir(parents=True, exist_ok=True)
                path = tmp_path / "pets" / split / name / f"{i}.png"
                Image.new("RGB", (4, 4), (len(split), ord(name[0]), i)).save(path)
    theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "pets"), cache_dir=str(tmp_path / "cache"))
    benchmark = FilesBenchmark(tmp_path / "pets")
    task = benchmark.task("pets")
    for split, samples in (("train", (*task.train, *task.validation)), ("test", task.test)):
        names = theirs[split].features["label"].names
        wanted = {(row["image"].convert("RGB").getpixel((0, 0)), names[row["label"]]) for row in theirs[split]}
        assert {(benchmark.images.load(s.images[0]).getpixel((0, 0)), s.answer) for s in samples} == wanted
