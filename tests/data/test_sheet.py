import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from fedmosaic.data.mosaic40.build import Mosaic40
from fedmosaic.data.sheet import contact_sheet, evenly_spaced
from fedmosaic.data.sheet_page import contact_page
from fedmosaic.errors import SettingsError


def test_a_sheet_shows_the_samples_images(mosaic: Mosaic40) -> None:
    sheet = np.asarray(contact_sheet(mosaic, "category@blueprint", n=2))
    first = np.asarray(mosaic.images.load(mosaic.task("category@blueprint").test[0].images[0]).resize((112, 112), 0))
    shown = sheet[40 + 10 + 1 : 40 + 10 + 111, 10 + 1 : 10 + 111]
    np.testing.assert_array_equal(shown, first[1:111, 1:111])


@pytest.mark.parametrize("task", ["analogy@openmoji", "describe@openmoji"])
def test_more_samples_make_a_longer_sheet(mosaic: Mosaic40, task: str) -> None:
    assert contact_sheet(mosaic, task, n=1).height < contact_sheet(mosaic, task, n=6).height


def test_unknown_tasks_are_named(mosaic: Mosaic40) -> None:
    with pytest.raises(SettingsError, match="category@photo"):
        contact_sheet(mosaic, "category@foto")


def test_a_page_holds_the_images_themselves_and_the_answers(mosaic: Mosaic40) -> None:
    page = contact_page(mosaic, "analogy@openmoji", n=3)
    shown = [base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", page)]
    samples = evenly_spaced(mosaic.task("analogy@openmoji").test, 3)
    keys = [key for sample in samples for key in sample.images]
    assert len(shown) == len(keys) == 9
    for content, key in zip(shown, keys, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(mosaic.images.load(key)))
    assert [re.search(rf"<b>{sample.answer}</b>", page) is not None for sample in samples] == [True] * 3
    assert "http" not in page
