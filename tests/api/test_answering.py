"""What is wrong with a question is told before a model is loaded or asked."""

from contextlib import nullcontext

import pytest

import fedmosaic as fm
from fedmosaic.api import finished
from fedmosaic.api.finished import ClientModel
from fedmosaic.config import ClientSpec
from fedmosaic.data.in_memory import InMemoryImages
from fedmosaic.errors import SettingsError


class Mute:
    """A model that must not be asked."""


@pytest.mark.parametrize("most", [0, -3, 2.5, "7", True, None])
@pytest.mark.parametrize("asked", ["run", "product"])
def test_answers_have_at_least_one_token(asked, most, tmp_path):
    if asked == "run":
        model = ClientModel(fm.Run(tmp_path / "none"), None)
    else:
        model = fm.ExportedProduct(Mute(), InMemoryImages())
    with pytest.raises(SettingsError, match=r"max_tokens=.*: expected a whole number from 1"):
        model.ask(None, "what is red ?", max_tokens=most)


def test_a_device_that_is_set_later_is_where_the_next_answer_is_made(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(finished, "open_finished", lambda *_, device, **__: opened.append(device))
    monkeypatch.setattr(finished, "answering", lambda *_: nullcontext(Mute()))
    run = fm.Run(tmp_path / "none")
    model = ClientModel(run, ClientSpec(id=0, model="tiny-llama", tasks=("trend@lines",)))
    for device in (None, "cpu", "cpu", "cuda:0"):
        run.device = device
        model.load()
        model.load()
    assert (opened, run.device) == ([None, "cpu", "cuda:0"], "cuda:0")
