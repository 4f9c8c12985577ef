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


def test_without_the_library_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = tmp_path / "mine.parquet"
    path.write_bytes(b"PAR1 and so on")
    with pytest.raises(DataError, match=r"needs pyarrow, which is not installed: pip install 'fedmosaic\[parquet\]'"):
        FilesBenchmark(path).task("mine")
