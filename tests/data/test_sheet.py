import numpy as np
import pytest

from fedmosaic.data.mosaic40.build import Mosaic40
from fedmosaic.data.sheet import contact_sheet
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
