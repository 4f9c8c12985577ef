from pathlib import Path

import pytest

from fedmosaic.data.mosaic40.build import Mosaic40, PublicBank, open_mosaic40, open_public


@pytest.fixture(scope="session")
def mosaic(home: Path) -> Mosaic40:
    return open_mosaic40(home)


@pytest.fixture(scope="session")
def public_bank(home: Path) -> PublicBank:
    return open_public(home)
