"""What the server's half of a method may use: public samples that all sides share, and trainees of its own."""

import pytest
import torch
from tests.federation.scenario import small

from fedmosaic.federation import assets as assets_module
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.runtime import ClientRuntime
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.methods.base import Aggregation
from fedmosaic.methods.fedavg import FedAvg
from fedmosaic.methods.uploads import Upload, Uploads
from fedmosaic.training import cross_entropy


class Taught(FedAvg):
    """Trains a trainee for one public batch and keeps what came out."""

    def aggregate(self, uploads, state):
        trainee = state.trainee(0, rate=0.1)
        (batch,) = trainee.public_batches(4)
        taught = trainee.predict(batch, mix="shared")
        trainee.step(batch, slots=("shared",), mix="shared")
        return Aggregation(
            {},
            state={**trainee.snapshot("shared"), "logits": taught.logits, "steps": torch.tensor(trainee.meter.steps)},
        )


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(assets_module, "make_method", lambda *_: Taught(FedAvg.Settings()))
    return ServerContext(Assets(small("fedavg")))


@pytest.mark.slow
def test_a_trainee_learns_reproducibly_and_its_cost_is_metered(context):
    nothing = Uploads([Upload(0, "x", {})])
    first = context.aggregate(nothing, {}, 2)
    spent = context.spent.flops
    assert spent > 0
    again = context.aggregate(nothing, {}, 2)
    assert context.spent.flops == 2 * spent
    assert all(torch.equal(first.state[name], again.state[name]) for name in first.state)
    other = context.aggregate(nothing, {}, 3)
    assert not torch.equal(first.state["logits"], other.state["logits"])  # other public samples in another round
    start = context.trainee(0).snapshot("shared")
    moved = [name for name, tensor in first.state.items() if not torch.equal(tensor, start.get(name, tensor))]
    assert any(name.endswith(".B") for name in moved)


@pytest.mark.slow
def test_server_and_clients_see_the_same_public_samples_in_a_round(tmp_path):
    settings = small("fedavg")
    participant = ClientNode(ClientRuntime(Assets(settings), tmp_path), 0)
    client = participant.client(3)
    context = ServerContext(Assets(settings))
    context.round = 3
    ours, theirs = client.public_batches(10), context.trainee(0).public_batches(10)
    assert [sample.id for batch in ours for sample in batch.samples] == [s.id for b in theirs for s in b.samples]
    assert torch.equal(ours[0].inputs.vision["features"], theirs[0].inputs.vision["features"])


def test_a_teacher_predicts_without_dropout_and_without_gradients(tmp_path):
    settings = small("sft", training={"steps": 1})
    client = ClientNode(ClientRuntime(Assets(settings), tmp_path), 0).client(1)
    client.adapter.train()
    (batch,) = client.public_batches(4)
    client.step(batch, slots=("local",), mix="local")
    one, two = client.predict(batch, mix="local"), client.predict(batch, mix="local")
    assert torch.equal(one.logits, two.logits)
    assert not one.logits.requires_grad
    assert client.adapter.training
    noisy = [client.answers(batch, mix="local").logits for _ in range(2)]
    assert not torch.equal(*noisy)
    torch.testing.assert_close(cross_entropy(one), torch.nn.functional.cross_entropy(one.logits, one.targets))


def test_a_pass_without_gradients_costs_less_than_one_with(tmp_path):
    client = ClientNode(ClientRuntime(Assets(small("sft")), tmp_path), 0).client(1)
    (batch,) = client.public_batches(4)
    client.predict(batch, mix="local")
    forward = client.meter.flops
    client.step(batch, slots=("local",), mix="local")
    assert 2 * forward < client.meter.flops - forward < 3.1 * forward


@pytest.mark.slow
@pytest.mark.parametrize(("method", "teaches"), [("feddistill", True), ("fedmkt", True), ("fedavg", False)])
def test_of_methods_that_teach_on_the_server_it_knows_what_clients_announce(tmp_path, method, teaches):
    settings = small(method)
    node = ClientNode(ClientRuntime(Assets(settings), tmp_path), 2)
    shapes = node.runtime.assets.method.upload_shapes(node.adapter)
    assert ServerContext(Assets(settings)).announced(2) == ((node.base.architecture, shapes) if teaches else None)
