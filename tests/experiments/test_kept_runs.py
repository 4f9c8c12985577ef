"""What kept runs of the field depend on."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def kept_runs(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    module = importlib.import_module("_kept_runs")
    monkeypatch.setattr(module, "ASSETS", tmp_path)
    for name in ("tiny-llama", "small-gemma3"):
        (tmp_path / name).mkdir()
    return module


def changed_by(module, path, settings):
    editions = []
    for content in (b"one", b"another"):
        path.write_bytes(content)
        module._edition.cache_clear()
        editions.append(module.edition(settings))
    module._edition.cache_clear()
    return editions[0] != editions[1]


def test_runs_depend_on_embedded_models_and_on_those_packages_models_that_they_name(kept_runs, tmp_path):
    with_package, without = '[[clients]]\nmodel = "small-gemma3"\n', '[[clients]]\nmodel = "tiny-llama"\n'
    embedded, delta = tmp_path / "tiny-llama" / "model.safetensors", tmp_path / "small-gemma3" / "delta.safetensors"
    assert changed_by(kept_runs, embedded, without)
    assert changed_by(kept_runs, delta, with_package)
    assert not changed_by(kept_runs, delta, without)


def test_runs_that_other_code_has_left_are_not_kept_as_those_of_this(kept_runs, tmp_path):
    """They have the same names and settings."""
    out = tmp_path / "out"
    kept_runs.unpack("nosuch", out)
    (out / "sft-seed0").mkdir()
    (out / "sft-seed0" / "settings.toml").write_text("")
    kept_runs.unpack("nosuch", out)
    (out / "edition.txt").write_text("0123456789ab")
    with pytest.raises(SystemExit, match=r"has runs of 0123456789ab, and this is \w+; give another --out"):
        kept_runs.unpack("nosuch", out)
    (out / "edition.txt").unlink()
    with pytest.raises(SystemExit, match="an unknown edition"):
        kept_runs.unpack("nosuch", out)
