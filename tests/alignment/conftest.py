"""Small random models, samples that differ, and features that are linear maps of common latents."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedmosaic.alignment.moments import JointMoments
from fedmosaic.data.sample import Sample
from fedmosaic.models.families import build_module
from fedmosaic.models.features import FeatureStore
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision_weights import load_tower
from fedmosaic.pretraining.tokenizers import fit_tokenizer
from fedmosaic.registry import FAMILIES

NAMES = ("tiny-llama", "tiny-qwen2", "tiny-gemma")
KINDS = ("bird", "fish", "tool", "boat")


class Noise:
    """Random pictures."""

    collection = "alignment-noise"

    def keys(self):
        return [f"{i:06d}" for i in range(24)]

    def digest(self, key):
        return f"{self.collection}-{key}"

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
    family = FAMILIES.load(name)
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
    return {name: make_model(name, features_home) for name in NAMES}


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return make_samples()


class Planted:
    """Architectures whose inputs and gradients are linear maps of the same latents, with latents of their own besides.

    Args:
        widths: of inputs and outputs of each architecture, at least ``latents + private``.
        latents: how many they have in common.
        private: how many each has for itself, as strong as the strongest common one.
        orthogonal: whether the maps keep angles.
        sizes: factor on each architecture's inputs; gradients are divided by its square.
    """

    def __init__(self, widths=(7, 11, 9), latents=7, *, private=0, orthogonal=False, sizes=(1.0, 1.0, 1.0), seed=0):
        draw = torch.Generator().manual_seed(seed)

        def some_map(width):
            matrix = torch.randn(width, latents + private, generator=draw, dtype=torch.float64)
            return torch.linalg.qr(matrix).Q if orthogonal else matrix + 2 * torch.eye(width, latents + private)

        self.widths = widths
        self.draw = draw
        self.latents = latents
        self.private = private
        self.spread = torch.linspace(3, 1, latents, dtype=torch.float64)
        self.centre = 2 * torch.randn(latents, generator=draw, dtype=torch.float64)
        self.input_maps = [size * some_map(width) for width, size in zip(widths, sizes, strict=True)]
        self.output_maps = [some_map(width) / size**2 for width, size in zip(widths, sizes, strict=True)]

    def rows(self, n, length=3):
        """Return inputs and gradients of n samples: lists of (n, length, width)."""
        z, g = (self._draw(n, length, self.latents) * self.spread for _ in "zg")
        return (
            [self._with_private(z + self.centre) @ m.T for m in self.input_maps],
            [self._with_private(g) @ m.T for m in self.output_maps],
        )

    def source(self, n=2000):
        """Return n samples as a mode sees them."""
        return PlantedSource(*self.rows(n))

    def _with_private(self, common):
        own = 3 * self._draw(*common.shape[:2], self.private)
        return torch.cat([common, own], dim=2)

    def _draw(self, *shape):
        return torch.randn(*shape, generator=self.draw, dtype=torch.float64)


class PlantedSource:
    """What :class:`MomentSource` gathers, written out sample by sample for one module; outputs are gradients, too."""

    names = ("module",)

    def __init__(self, inputs, gradients):
        self.inputs, self.gradients = inputs, gradients

    def moments_at_positions(self, quantities):
        given = {"inputs": self.inputs, "gradients": self.gradients, "outputs": self.gradients}
        return {what: {"module": moments_of([each.flatten(0, 1) for each in given[what]])} for what in quantities}

    def update_moments(self, bases, *, side):
        rows = []
        for x, g, basis in zip(self.inputs, self.gradients, bases["module"], strict=True):
            updates = torch.einsum("sto,sti->soi", g, x)  # D of each sample
            seen = (updates @ basis.A.T).mT if side == "outputs" else basis.B.T @ updates
            rows.append(seen.flatten(0, 1))
        return {"module": moments_of(rows)}


def moments_of(rows):
    moments = JointMoments([each.shape[1] for each in rows])
    moments.add(rows)
    return moments


@pytest.fixture
def planted():
    return Planted
