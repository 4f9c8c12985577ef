"""Synthetic images, dialogues and small models for the tests of the models package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError
from fedmosaic.models.families import build_module
from fedmosaic.models.features import Features
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision import VisionTower
from fedmosaic.models.vision_weights import load_tower
from fedmosaic.pretraining.tokenizers import fit_tokenizer
from fedmosaic.registry import FAMILIES


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@dataclass
class Noise:
    """An image source of random pictures of various shapes; counts how often each is loaded."""

    n: int = 40
    collection: str = "noise"

    def __post_init__(self):
        self.loaded: list[str] = []

    def keys(self):
        return [f"{i:06d}" for i in range(self.n)]

    def digest(self, key):
        return f"{self.collection}-{key}"

    def load(self, key):
        if key not in self.keys():
            raise DataError(f"no image {key!r}")
        self.loaded.append(key)
        rng = np.random.default_rng(int(key))
        height, width = ((64, 64), (40, 90), (200, 130))[int(key) % 3]
        return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def noise() -> Noise:
    return Noise()


@pytest.fixture(scope="session")
def tower() -> VisionTower:
    return load_tower()


def make_samples() -> list[Sample]:
    one = "<image> what kind of thing is this ? options : bird fish tool boat answer :"
    two = "<image> first <image> second which image is the odd one out ? options : first second answer :"
    kinds = ("bird", "fish", "tool", "boat")
    return [
        Sample("a", ("000001",), one, "bird", kinds),
        Sample("b", ("000002", "000003"), two, "second", ("first", "second")),
        Sample("c", ("000004",), one, "boat", kinds),
        Sample("d", (), "what is red and green ? answer :", "a fish tool"),
    ]


@pytest.fixture
def samples() -> list[Sample]:
    return make_samples()


def make_tiny(name: str, tower: VisionTower, images: Noise, home) -> TinyModel:
    """Return a family's model with random weights and a tokenizer fitted to the samples."""
    family = FAMILIES.load(name)
    corpus = [f"{sample.prompt} {sample.answer}" for sample in make_samples()] * 20
    words = ("bird", "fish", "tool", "boat", "first", "second")
    tokenizer = fit_tokenizer(family.tokenizer, corpus, vocabulary=300, whole_words=words)
    module = build_module(family, len(tokenizer))
    module.model.vision_tower = tower
    return TinyModel(name, module, tokenizer, Features(images, tower, home=home))


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def tiny(request, tower, tmp_path_factory) -> TinyModel:
    return make_tiny(request.param, tower, Noise(), tmp_path_factory.mktemp("home"))
