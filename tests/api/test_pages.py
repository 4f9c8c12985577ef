"""The notebooks, run as they stand."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(path):
    """The code of a notebook's cells."""
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_are_two_small_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["first_federation", "own_method_own_data"]
    assert all(path.stat().st_size < 200_000 for path in NOTEBOOKS)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_all_code_runs_in_its_order(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for number, code in enumerate(cells(path), start=1):
        exec(compile(code, f"{path.name}, block {number}", "exec"), names)
