"""What is wrong with a question is told before a model is loaded or asked."""

import pytest

import fedmosaic as fm
from fedmosaic.api.finished import ClientModel
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
