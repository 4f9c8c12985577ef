import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmosaic.data.record_files import _elements, read_records
from fedmosaic.errors import DataError

ONE, TWO = ({"conversations": [{"value": q}, {"value": "é"}]} for q in ("one", "two\u2028lines"))


def values(path: Path, content: bytes | str) -> list[object]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    entries = read_records(path)
    assert not [entry.fault for entry in entries if entry.fault]
    return [entry.value for entry in entries]


def lines(*records: object) -> str:
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_lists_and_json_lines_are_told_by_content(tmp_path: Path, name: str, mark: str) -> None:
    path = tmp_path / name
    assert values(path, mark + json.dumps([ONE, TWO], indent=2)) == [ONE, TWO]
    assert values(path, mark + lines(ONE, TWO)) == [ONE, TWO]
    assert values(path, mark + lines(ONE, TWO).replace("\n", "\r\n\r\n") + "\n") == [ONE, TWO]
    assert values(path, mark + lines(ONE)) == [ONE]
    assert values(path, mark + lines([1], None, "x")) == [[1], None, "x"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b" \n\xef\xbb\xbf", ["not valid JSON"]),
        (json.dumps([ONE]).encode("utf-16"), ["UTF-16", "UTF-8"]),
        (json.dumps([ONE]).encode("utf-16-le"), ["UTF-16", "UTF-8"]),
        (json.dumps([ONE]).encode("utf-32"), ["UTF-32", "UTF-8"]),
        (b"[]", ["length 0"]),
        (b"{}", ["dict"]),
        (b'{"data": []}', ["dict", "length 1"]),
        (b"null", ["NoneType"]),
        (b"7", ["int"]),
        (b'"text"', ["str"]),
    ],
)
def test_files_without_records_are_one_line(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    try:
        message = read_records(path)[0].fault
    except DataError as error:
        message = str(error)
        assert str(path) in message
    for word in words:
        assert word in message


DEEP = "[" * 100_000 + "]" * 100_000
BAD = {
    '{"a": 1, "a": 2}': "'a' stands twice",
    '{"b": {"a": 1, "a": 1}}': "'a' stands twice",
    '{"a": ' + DEEP + "}": "nested too deeply",
    '{"a": ' + "9" * 5000 + "}": "not valid JSON",
    '{"a": 1 "b": 2}': "not valid JSON",
    '{"a": tru}': "not valid JSON",
    '{"a": "\x01"}': "not valid JSON",
    "": "not valid JSON",
}


@pytest.mark.parametrize(("bad", "fault"), BAD.items(), ids=[fault + str(i) for i, fault in enumerate(BAD.values())])
def test_a_record_that_cannot_be_read_is_told_from_those_that_can(tmp_path: Path, bad: str, fault: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(f"[{lines(ONE)}, {bad},\n{lines(TWO)}]")
    first, second, third = read_records(path)
    assert (first.value, third.value) == (ONE, TWO)
    assert (second.place, second.value) == ("record 1", None)
    assert fault in second.fault
    if bad:
        path.write_text(f"{lines(ONE)}\n\n{bad}\n{lines(TWO)}")
        first, second, third = read_records(path)
        assert (first.value, third.value) == (ONE, TWO)
        assert (second.place, second.value) == ("record 1 (line 3)", None)
        assert fault in second.fault


def test_numbers_that_json_does_not_know_are_left_to_whoever_reads_the_value(tmp_path: Path) -> None:
    (record,) = values(tmp_path / "a.json", '[{"score": NaN, "most": -Infinity}]')
    assert str(record) == "{'score': nan, 'most': -inf}"


def test_a_list_that_is_cut_off_or_goes_on_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    whole = json.dumps([ONE, TWO])
    for cut in range(len(json.dumps([ONE])) + 2, len(whole)):
        path.write_text(whole[:cut])
        entries = read_records(path)
        assert [entry.value for entry in entries] == [ONE, None]
        assert "truncated" in entries[1].fault
    for tail, words in (("\n]", "after the list"), (", {}", "after the list")):
        path.write_text(json.dumps([ONE, TWO], indent=1) + tail)
        assert words in read_records(path)[-1].fault
    path.write_text(whole[:-1] + "}")
    assert "ends with }" in read_records(path)[-1].fault


def test_bytes_that_are_no_utf8_are_told_with_their_record(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(lines(ONE, {"a": "caf"}).encode().replace(b"caf", b"caf\xe9"))
    assert [entry.value for entry in read_records(path)] == [ONE, {"a": "caf\udce9"}]


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        read_records(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_records(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.slow
@settings(max_examples=100)
@given(st.lists(JSON, min_size=1, max_size=5), st.sampled_from([None, 1]))
def test_elements_of_a_list_are_found_as_a_parser_finds_them(table: list[Any], indent: int | None) -> None:
    text = json.dumps(table, indent=indent, ensure_ascii=False)
    assert [json.loads(piece) for _, piece, _ in _elements(text)] == table
