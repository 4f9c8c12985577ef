"""The table of formats in docs/data.md: each record in it is read, and says what the others say."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from fedmosaic.data.files import FilesBenchmark
from fedmosaic.registry import FORMATS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("<!-- records -->")[2].partition("<!-- end -->")[0]
ROWS = re.findall(r"^\| ([^|]+) \| `([\w-]+)` \| `(\{.*\})` \|$", TABLE, re.MULTILINE)


def test_the_table_has_every_format_and_every_row_is_read():
    assert len(ROWS) == len(TABLE.strip().splitlines()) - 2
    assert {name for _, name, _ in ROWS} == set(FORMATS)


@pytest.mark.parametrize(("source", "name", "record"), ROWS)
def test_each_record_of_the_table_is_the_same_question(tmp_path, source, name, record):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (7, 0, 0)).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    encoded = base64.b64encode(file.getvalue()).decode()
    text = record.replace("URI", f"data:image/png;base64,{encoded}").replace("BASE64", encoded)
    json.loads(text)
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(text + "\n")
    benchmark = FilesBenchmark(tmp_path)
    (sample,) = benchmark.task(tmp_path.name).train
    assert (sample.prompt, sample.answer) == ("<image>\nWhat is it?", "a cat"), source
    assert benchmark.images.load(sample.images[0]).getpixel((0, 0)) == (7, 0, 0)
    assert benchmark.understood[tmp_path.name].formats == {name}
    assert benchmark.notes == [
        f"{tmp_path.name}: 1 of 1 test samples are in its train file, too "
        "(record 0 (line 1) of test is record 0 (line 1) of train); their scores measure memorisation: take them out "
        "of one of the files"
    ]
