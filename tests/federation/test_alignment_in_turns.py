"""An alignment that is made with one model at a time on the device."""

import pytest
import torch

from fedmosaic.federation.alignment import make_alignment
from fedmosaic.models import residence


@pytest.mark.slow
def test_models_that_take_turns_on_the_device_align_the_same(home, monkeypatch):
    there = []

    class Watched(residence.Residence):
        def enter(self, model):
            super().enter(model)
            there.append([each.name for each in self._there])

    monkeypatch.setattr("fedmosaic.federation.alignment.Residence", Watched)
    names = ["tiny-llama", "tiny-gemma"]
    together, in_turns = (
        make_alignment(names, home=home, rank=2, blocks=1, samples=40, offload=offload) for offload in (False, True)
    )
    assert {tuple(each) for each in there} == {("tiny-llama",), ("tiny-gemma",)}
    for architecture in together.architectures.values():
        expected, found = together.basis(architecture), in_turns.basis(architecture)
        assert expected.keys() == found.keys()
        assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
