"""A client's state: one table of named tensors on disk, whose names are those of older run folders."""

import pytest
import torch
from safetensors.torch import save_file
from tests.methods.lab import Lab

from fedmosaic.errors import RunError
from fedmosaic.federation.client_store import ClientStore
from fedmosaic.training import ClientState

OLD = {
    "slot.local|layer.0.q_proj.A": torch.ones(2, 3),
    "slot.local|layer.0.q_proj.B": torch.zeros(3, 2),
    "slot.personal_global|layer.0.q_proj.A": torch.full((2, 3), 2.0),
    "gate|layer.0.q_proj.beta": torch.tensor(0.5),
    "moment|exp_avg/local/layer.0.q_proj.A": torch.full((2, 3), 3.0),
    "memory|sketch": torch.arange(4.0),
    "memory|a|b": torch.tensor(1),
}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_file_of_an_older_version_is_read_and_written_again_under_the_same_names(tmp_path):
    save_file(OLD, tmp_path / "round-0003.safetensors")
    state = ClientStore(tmp_path).load(3)
    assert set(state.slots) == {"local", "personal_global"}
    assert equal(state.slots["personal_global"], {"layer.0.q_proj.A": torch.full((2, 3), 2.0)})
    assert equal(state.gate, {"layer.0.q_proj.beta": torch.tensor(0.5)})
    assert equal(state.moments, {"exp_avg/local/layer.0.q_proj.A": torch.full((2, 3), 3.0)})
    assert equal(state.memory, {"sketch": torch.arange(4.0), "a|b": torch.tensor(1)})
    assert equal(state.tensors(), OLD)


@pytest.mark.parametrize("key", ["slot|x", "weights|x", "local", ""])
def test_what_is_no_state_is_refused_by_name(key):
    with pytest.raises(RunError, match=r"has the tensor .* expected slot\.SLOT"):
        ClientState.from_tensors({**OLD, key: torch.ones(1)})


def test_a_trained_client_comes_back_from_its_table_and_goes_on_as_if_it_had_never_left():
    lab = Lab("fedmosaic", {"sketch_size": 32})
    first = lab.client(0)
    lab.train(first)
    state = ClientState.from_tensors(first.state().tensors())
    assert state.moments
    assert state.memory
    stayed, back = lab.client(0, 2, first.state()), lab.client(0, 2, state)
    assert equal(lab.train(stayed).tensors, lab.train(back).tensors)
    fresh = lab.client(0, 2, state.weights)
    assert not fresh.memory
    assert equal(fresh.snapshot("local"), first.snapshot("local"))
    assert not equal(lab.train(fresh).tensors, lab.train(lab.client(0, 2, state)).tensors)  # moments make a difference


def test_a_state_shares_nothing_with_the_client_and_its_parts_are_replaced_in_a_copy():
    lab = Lab("ditto")
    client = lab.client(0)
    state = client.state()
    before = state.tensors()
    copy = {name: tensor.clone() for name, tensor in before.items()}
    lab.train(client)
    assert equal(state.tensors(), copy)
    other = state.with_slots({"shared": {name: tensor + 1 for name, tensor in state.slots["shared"].items()}})
    assert equal(state.tensors(), copy)
    assert other.slots["personal"] is state.slots["personal"]
    assert not equal(other.slots["shared"], state.slots["shared"])
