"""``import fedmosaic`` is light, and what it promises is there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fedmosaic as fm


def test_nothing_heavy_is_imported_before_it_is_used():
    heavy = "('torch', 'transformers', 'pydantic', 'rich')"
    code = f"import sys, fedmosaic; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_once_for_people_and_once_for_type_checkers():
    assert {name for name in fm.__all__ if getattr(fm, name) is None} == set()
    assert set(fm.__all__) <= set(dir(fm))
    tree = ast.parse(Path(fm.__file__).read_text())
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert sorted(alias.name for node in checked.body for alias in node.names) == sorted(fm.__all__) == fm.__all__
    for node in checked.body:
        for alias in node.names:
            assert getattr(sys.modules[node.module], alias.name) is getattr(fm, alias.name)


def test_no_public_name_is_that_of_a_package():
    packages = {path.name for path in Path(fm.__file__).parent.iterdir() if path.is_dir()}
    assert not packages & set(fm.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        fm.runn  # noqa: B018
