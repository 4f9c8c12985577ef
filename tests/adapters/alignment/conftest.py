"""Small random models, samples that differ, and features that are linear maps of common latents."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedmosaic.data.sample import Sample
from fedmosaic.models.families import FAMILIES, build_module
from fedmosaic.models.features import FeatureStore
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision_weights import load_tower
from fedmosaic.models.vocabulary import fit_tokenizer

KINDS = ("bird", "fish", "tool", "boat")


class Noise:
    """Random pictures."""

    fingerprint = "alignment-noise"

    def keys(self):
        return [f"{i:06d}" for i in range(24)]

    def load(self, key):
        return Image.fromarray(np.random.default_rng(int(key)).integers(0, 255, (64, 64, 3), dtype=np.uint8))


def make_samples() -> list[Sample]:
    """60 questions about one or two of 24 pictures, in changing words."""
    found = []
    for index, (kind, other) in enumerate(itertools.islice(itertools.cycle(itertools.permutations(KINDS, 2)), 60)):
        one, two = f"{index % 24:06d}", f"{(5 * index + 1) % 24:06d}"
        if index % 2:
            options = (kind, other)
            text = f"<image> what kind of thing is this ? options : {' '.join(options)} answer :"
            found.append(Sample(str(index), (one,), text, KINDS[index % 4] if KINDS[index % 4] in options else kind))
        else:
            text = f"<image> first <image> second which image shows a {kind} and not a {other} ? answer :"
            found.append(Sample(str(index), (one, two), text, ("first", "second")[index // 2 % 2]))
    return found


def make_model(name: str, home: Path, *, seed: int = 0) -> TinyModel:
    """Return a family's model with random weights and a tokenizer fitted to the samples."""
    family = FAMILIES[name]
    corpus = [f"{sample.prompt} {sample.answer}" for sample in make_samples()]
    tokenizer = fit_tokenizer(family.tokenizer, corpus, vocabulary=280, whole_words=(*KINDS, "first", "second"))
    module = build_module(family, len(tokenizer), seed=seed)
    module.model.vision_tower = load_tower()
    return TinyModel(name, module, tokenizer, FeatureStore(Noise(), module.model.vision_tower, home=home))


@pytest.fixture(scope="session")
def features_home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("alignment-home")


@pytest.fixture(scope="session")
def models(features_home) -> dict[str, TinyModel]:
    return {name: make_model(name, features_home) for name in FAMILIES}


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return make_samples()


class Planted:
    """Architectures whose inputs and gradients are invertible linear maps of the same latents.

    Args:
        widths: of inputs and outputs of each architecture, at least ``latents``.
        latents: how many there are; features of a wider architecture have nothing else in them.
        orthogonal: whether the maps keep lengths and angles.
    """

    def __init__(self, widths=(7, 11, 9), latents=7, *, orthogonal=False, seed=0):
        draw = torch.Generator().manual_seed(seed)

        def some_map(width):
            matrix = torch.randn(width, latents, generator=draw, dtype=torch.float64)
            return torch.linalg.qr(matrix).Q if orthogonal else matrix + 2 * torch.eye(width, latents)

        self.widths = widths
        self.draw = draw
        self.latents = latents
        self.spread = torch.linspace(3, 1, latents, dtype=torch.float64)
        self.input_maps = [some_map(width) for width in widths]
        self.output_maps = [some_map(width) for width in widths]
        self.offsets = [torch.randn(width, generator=draw, dtype=torch.float64) for width in widths]

    def rows(self, n):
        """Return inputs and gradients of n positions: lists of (n, width)."""
        z, g = (torch.randn(n, self.latents, generator=self.draw, dtype=torch.float64) * self.spread for _ in "zg")
        inputs = [z @ m.T + offset for m, offset in zip(self.input_maps, self.offsets, strict=True)]
        return inputs, [g @ m.T for m in self.output_maps]


@pytest.fixture
def planted():
    return Planted
