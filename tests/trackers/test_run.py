"""A tracked run of the command line; its reference is tracked beside it, and the docs' own callback works."""

import re
from pathlib import Path

import pytest
from tests.cli.calling import call
from tests.federation.scenario import SMALL, small
from tests.trackers.test_tensorboard import event_accumulator, read, series

from fedmosaic.config.settings import tomli_w
from fedmosaic.federation import RunFolder, engines

pytestmark = pytest.mark.slow  # whole runs

DOCS = Path(__file__).parents[2] / "docs" / "tracking.md"


def test_a_tracked_run_and_its_reference_can_be_read_in_tensorboard(monkeypatch, capsys, tmp_path):
    assert event_accumulator is not None
    (tmp_path / "small.toml").write_text(tomli_w.dumps(SMALL.model_dump(mode="json")))
    out = tmp_path / "run"
    given = ["--track", "tensorboard", "--reference", "--rounds", "2", "--out", out]
    status, shown, told = call(monkeypatch, capsys, "run", tmp_path / "small.toml", *given)
    assert status == 0, told
    assert f"tensorboard --logdir {out}" in shown.replace("\n", "")
    for folder in (out, out / "reference"):
        results, found = RunFolder(folder).results(), read(folder)
        assert series(found, "scores/self")[2] == pytest.approx(results.self_.last)
        assert series(found, "cost/bytes-up")[2] == results.costs.total_bytes_up
        assert sorted(series(found, "loss/client-3")) == [1, 2, 3, 4]
    assert "relevance" in read(out).Tags()["images"]
    status, *_ = call(monkeypatch, capsys, "run", "--resume", "--rounds", "3", "--out", out)  # without any tracker
    assert status == 0
    assert max(series(read(out), "scores/self")) == 2


def test_the_callback_in_the_docs_works(tmp_path, capsys):
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    names = {}
    exec(code.partition("\n\n\nsettings = ")[0], names)
    settings = small("sft", rounds=1)
    folder = RunFolder.create(tmp_path / "run", settings)
    best = names["Best"]()
    engines.run(settings, folder, callbacks=[best])
    assert f"best after round {best.round}: " in capsys.readouterr().out
    assert best.score >= folder.results().self_.last or best.round == 0
