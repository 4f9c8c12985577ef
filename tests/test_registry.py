"""One registry for everything that settings choose by a name."""

import importlib.metadata
import shutil
import subprocess
import sys
from unittest import mock

import pytest

from fedmosaic.errors import SettingsError
from fedmosaic.registry import METHODS, REGISTRIES, Registry

NAMED = [pytest.param(registry, name, id=f"{registry.kind}-{name}") for registry in REGISTRIES for name in registry]


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """A registry over a package of two files, one of which cannot be imported; its folder."""
    package = tmp_path / "colours"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "red.py").write_text('class Red:\n    """A colour."""\n\n    name = "light-red"\n')
    (package / "blue.py").write_text('import nowhere\n\n\nclass Blue:\n    name: str = "blue"\n')
    (package / "helper.py").write_text('name = "no colour"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry("colours", noun="colour", package="colours"), package
    for name in [name for name in sys.modules if name.split(".")[0] == "colours"]:
        del sys.modules[name]


def entry_point(folder, name, value, *, package="more_colours"):
    """Install a package that brings one entry point."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fedmosaic.colours]\n{name} = {value}\n")


@pytest.mark.parametrize(("registry", "name"), NAMED)
def test_what_is_built_in_loads_and_has_its_name(registry, name):
    assert registry.load(name).name == name


def test_names_are_known_without_importing_anything(colours):
    registry, _ = colours
    assert list(registry) == ["blue", "light-red"]
    assert registry.check("blue") == "blue"
    assert registry.load("light-red").__doc__ == "A colour."
    with pytest.raises(ImportError, match="nowhere"):
        registry.load("blue")


def test_an_unknown_name_is_refused_with_the_nearest(colours):
    registry, _ = colours
    for ask in (registry.check, registry.load):
        with pytest.raises(SettingsError, match="unknown colour 'bleu'; did you mean 'blue'\\? known: blue, light-red"):
            ask("bleu")


def test_two_files_with_one_name_are_refused(colours):
    registry, package = colours
    (package / "red_too.py").write_text('class Other:\n    name = "light-red"\n')
    with pytest.raises(SettingsError, match="red_too both hold a colour named 'light-red'"):
        list(registry)


def test_an_entry_point_is_loaded_when_it_is_asked_for(colours):
    registry, package = colours
    (package.parent / "green.py").write_text('class Green:\n    name = "green"\n')
    entry_point(package.parent, "green", "green:Green")
    assert list(registry) == ["blue", "green", "light-red"]
    assert "green" not in sys.modules
    assert registry.load("green").__module__ == "green"
    del sys.modules["green"]


def test_packages_come_and_go_in_a_process_and_are_looked_up_once_in_between(colours, monkeypatch):
    registry, package = colours
    look = mock.Mock(side_effect=importlib.metadata.entry_points)
    monkeypatch.setattr("fedmosaic.registry.entry_points", look)
    assert list(registry) == ["blue", "light-red"]
    (package.parent / "green.py").write_text('class Green:\n    name = "green"\n')
    entry_point(package.parent, "green", "green:Green")
    for _ in range(3):
        assert "green" in registry
        assert registry.load("light-red").name == "light-red"
    assert look.call_count <= 2
    shutil.rmtree(package.parent / "more_colours-1.0.dist-info")
    assert "green" not in registry


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("blue", "sys:path", "a colour named 'blue' exists already"),
        ("green", "nowhere:Green", "cannot be loaded: No module named 'nowhere'"),
        ("green", "sys:path", "is no colour"),
        ("green", "colours.red:Red", "calls itself 'light-red'"),
    ],
)
def test_a_wrong_entry_point_is_named(colours, name, value, words):
    registry, package = colours
    entry_point(package.parent, name, value)
    with pytest.raises(SettingsError, match=words) as error:
        registry.load(name)
    assert value in str(error.value)


def test_a_class_can_be_registered_in_the_process(colours):
    registry, _ = colours

    def define(name):
        return type("Mine", (), {"name": name, "__qualname__": "Mine"})

    registry.register(define("mine"))
    again = registry.register(define("mine"))  # a notebook's cell that is run twice
    assert registry.load("mine") is again
    with pytest.raises(SettingsError, match="'blue' exists already; give Mine another name"):
        registry.register(define("blue"))
    registry.unregister("mine")
    assert "mine" not in registry


def test_a_method_must_be_derived_from_the_base_of_methods():
    with pytest.raises(SettingsError, match=r"no method: expected a class derived from fedmosaic\.methods\.base"):
        METHODS.register(type("Mine", (), {"name": "mine"}))


def test_no_registry_loads_what_it_lists():
    code = """
import sys
from fedmosaic.registry import REGISTRIES
assert [name for registry in REGISTRIES for name in registry]
sys.exit(bool({"torch", "transformers", "numpy", "flwr"} & set(sys.modules)))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
