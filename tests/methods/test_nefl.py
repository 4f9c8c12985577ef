"""NeFL: nested submodels, step sizes, and who is averaged with whom."""

import pytest
import torch
from tests.methods.lab import Lab, distance, same
from torch.testing import assert_close

from fedmosaic.methods.nefl import Submodel
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads

FIRST, SECOND = "layer.0.q_proj", "layer.1.q_proj"


def upload(client, value, *, rank, layers, architecture="x"):
    tensors = {}
    for layer in (FIRST, SECOND)[:layers]:
        tensors |= {
            f"{layer}.A": torch.full((rank, 3), value),
            f"{layer}.B": torch.full((2, rank), value),
            f"{layer}.s": torch.tensor(value),
        }
    return Upload(client, architecture, tensors)


def test_consistent_parameters_are_averaged_over_exactly_the_submodels_that_contain_them():
    uploads = Uploads(
        [
            upload(0, 1.0, rank=1, layers=1),
            upload(1, 2.0, rank=2, layers=1),
            upload(2, 6.0, rank=3, layers=2),
            upload(3, 100.0, rank=3, layers=2, architecture="y"),
        ]
    )
    downloads = make_method("nefl", {}).aggregate(uploads, None).downloads
    rows = torch.tensor([(1 + 2 + 6) / 3, (2 + 6) / 2, 6.0])  # of A in the first layer; columns of B likewise
    for client, rank in ((0, 1), (1, 2), (2, 3)):
        assert_close(downloads[client][f"{FIRST}.A"], rows[:rank, None].expand(rank, 3))
        assert_close(downloads[client][f"{FIRST}.B"], rows[:rank].expand(2, rank))
    assert_close(downloads[2][f"{SECOND}.A"], torch.full((3, 3), 6.0))
    assert not any(name.startswith(SECOND) for name in downloads[0])
    assert_close(downloads[3][f"{FIRST}.A"], torch.full((3, 3), 100.0))


def test_step_sizes_are_averaged_within_the_same_submodel_only():
    uploads = Uploads(
        [
            upload(0, 1.0, rank=1, layers=2),
            upload(1, 3.0, rank=1, layers=2),
            upload(2, 7.0, rank=2, layers=2),
            upload(3, 9.0, rank=1, layers=1),
        ]
    )
    downloads = make_method("nefl", {}).aggregate(uploads, None).downloads
    steps = [downloads[client][f"{FIRST}.s"].item() for client in range(4)]
    assert steps == [2.0, 2.0, 7.0, 9.0]


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("width", [Submodel(3, 1), Submodel(3, 4)]),
        ("depth", [Submodel(1, 4), Submodel(3, 4)]),
        ("both", [Submodel(2, 2), Submodel(3, 4)]),
    ],
)
def test_ratios_give_layers_and_ranks(scaling, expected):
    lab = Lab("nefl", {"ratios": (0.25, 1.0), "scaling": scaling}, rank=4)
    assert [lab.method.submodel(lab.client(number)) for number in range(2)] == expected


def test_a_client_trains_and_sends_its_submodel_only():
    lab = Lab("nefl", {"ratios": (0.25, 1.0)}, rank=4)
    client = lab.client()
    sent = lab.train(client).tensors
    assert {int(name.split(".")[1]) for name in sent} == {0, 1}
    assert {tensor.shape[0] for name, tensor in sent.items() if name.endswith(".A")} == {2}
    for name, tensor in client.snapshot("shared").items():
        if name.startswith("layer.2."):
            assert not tensor.any()
        else:
            assert not (tensor[2:] if name.endswith(".A") else tensor[:, 2:]).any()
    steps = {name: tensor for name, tensor in client.adapter.gate_tensors().items() if name.endswith(".s")}
    assert all((step != 1) == (not name.startswith("layer.2.")) for name, step in steps.items())
    shapes = lab.method.upload_shapes(client.adapter)
    assert set(sent) < set(shapes)


def test_a_download_is_taken_up_and_survives_the_first_step():
    lab = Lab("nefl", {"ratios": (0.25, 1.0)}, rank=4)
    client = lab.client()
    sent = lab.train(client).tensors
    received = {name: torch.randn_like(tensor) for name, tensor in sent.items()}
    later = lab.client(round_=2, state=client.state())
    lab.method.receive(later, received)
    assert same(lab.method.upload(later), received)
    later.step(lab.batch(later), slots=("shared",), mix="gate", gate=True)
    after = lab.method.upload(later)
    assert 0 < distance(after, received) < distance(after, sent) / 5


def test_layers_and_ranks_that_nobody_has_begun_start_as_in_round_1_and_are_trained():
    lab = Lab("nefl", {"ratios": (0.25, 1.0)}, rank=4)
    peer, newcomer = lab.client(), lab.client(1, round_=2)
    own, shapes = newcomer.snapshot("shared"), lab.method.upload_shapes(newcomer.adapter)
    sent = lab.train(peer).tensors
    lab.method.receive(newcomer, lab.method.initial_download("narrow", shapes, Uploads([Upload(0, "narrow", sent)])))
    taken = lab.method.upload(newcomer)
    assert same(lab.method.submodel(peer).of(taken), sent)
    for name, tensor in own.items():
        first = 2 if name in sent else 0
        assert (
            torch.equal(taken[name][first:], tensor[first:])
            if name.endswith(".A")
            else not taken[name][:, first:].any()
        )
    newcomer.step(lab.batch(newcomer), slots=("shared",), mix="gate", gate=True)
    for name, tensor in newcomer.snapshot("shared").items():
        assert (tensor.any(1) if name.endswith(".A") else tensor.any(0)).all()


def test_at_step_size_one_the_whole_model_is_plain_lora_and_steps_scale_it():
    lab = Lab("nefl", {"ratios": (1.0,)}, rank=4)
    client = lab.client()
    client.adapter.load_slot("shared", lab.noise(client, "shared"))
    batch = lab.batch(client)
    assert_close(client.predict(batch, mix="gate").logits, client.predict(batch, mix="shared").logits)
    half = {name: torch.full_like(tensor, 0.5) for name, tensor in client.adapter.gate_tensors().items()}
    client.adapter.load_gate(half)
    assert_close(client.predict(batch, mix="gate").logits, client.predict(batch, mix={"shared": 0.5}).logits)
