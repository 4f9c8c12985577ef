"""The house: imports point downwards only and in no circle, files stay small, nothing unpickles."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MOST_LINES = 320


def test_imports_point_downwards_only():
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_imports_go_in_a_circle():
    try:
        graphlib.TopologicalSorter(imports(ROOT / "src")).prepare()
    except graphlib.CycleError as error:
        pytest.fail("these modules import each other: " + " <- ".join(error.args[1]))


def test_a_circle_is_seen_wherever_its_imports_stand(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("from pack.one import f\n")
    (package / "one.py").write_text("def f():\n    from pack import two\n    return two\n")
    (package / "two.py").write_text("from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import pack.three\n")
    (package / "three.py").write_text("import os\n")
    graph = imports(tmp_path)
    assert graph == {"pack": {"pack.one"}, "pack.one": {"pack.two"}, "pack.two": {"pack.three"}, "pack.three": set()}
    (package / "three.py").write_text("from pack.one import f\n")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(imports(tmp_path)).prepare()


def imports(root):
    """Return which modules below a folder each of them imports, be it at the top, in a function or for types only.

    ``from package import name`` is an import of the module of that name, where there is one, and else of what the
    package's own file defines or passes on. That a module's package is run before it is not counted: it is Python's.
    """
    files = {path.relative_to(root).with_suffix("").parts: path for path in root.rglob("*.py")}
    modules = {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for parts, path in files.items()}
    graph = {}
    for name, path in modules.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: write the whole name of what is imported"
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {each if each in modules else node.module for each in whole}
        graph[name] = (found & modules.keys()) - {name}
    return graph


def test_a_file_is_one_idea():
    texts = {path: path.read_text() for path in SOURCES}
    long = [path for path in texts if texts[path].count("\n") > MOST_LINES]  # few need to be parsed
    assert {path.name: lines for path in long if (lines := lines_of_code(texts[path])) > MOST_LINES} == {}


def test_lines_of_code_are_neither_blank_nor_docstrings():
    assert lines_of_code('"""One\n\nof three lines."""\n\nhere = 1  # a comment\n\n"""What it is."""\n') == 1


def lines_of_code(text):
    """Return the number of a file's lines that are neither blank nor part of a docstring."""
    lines = {number for number, line in enumerate(text.splitlines(), start=1) if line.strip()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_nothing_unpickles():
    allowed = {"vision_weights.py"}  # reads the package's weights with weights_only=True, after a checksum
    for path in SOURCES:
        if path.name not in allowed:
            assert not re.search(r"\b(pickle|torch\.load)\b|allow_pickle=True", path.read_text()), path
