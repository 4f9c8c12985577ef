"""The tasks without images on the command line."""

import pytest
from tests.cli.calling import call

pytestmark = pytest.mark.slow  # whole runs


def test_the_text_tasks_are_listed_and_shown(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", "160")
    status, shown, _ = call(monkeypatch, capsys, "tasks", "list", "--benchmark", "words")
    assert status == 0
    assert "opposite@adjectives" in shown
    assert "parity@numbers (unseen)" in shown
    assert "Options:" not in shown
    page = tmp_path / "sum.html"
    assert call(monkeypatch, capsys, "tasks", "show", "sum@numbers", "--benchmark", "words", "--out", page)[0] == 0
    assert "plus" in page.read_text()
    assert "<img" not in page.read_text()
    status, _, error = call(monkeypatch, capsys, "tasks", "list", "--benchmark", "word")
    assert status == 2
    assert "did you mean 'words'" in error
