"""Who is let in: clients whose hellos announce what the method needs, and what the others announce."""

import json
from dataclasses import replace

import pytest
from tests.federation.test_membership import A, Clients, P, architecture, upload
from tests.federation.test_participation import settings
from tests.federation.unreliable import FIRST_NODE, FakeTime

from fedmosaic.errors import RunError
from fedmosaic.federation.attendance import Attendance
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.history import RunHistory
from fedmosaic.federation.peers import Peer, check_fit
from fedmosaic.federation.post import Post
from fedmosaic.methods.registry import make_method


class Announcing(Clients):
    """Stand-ins of which some announce other tensors than they should."""

    def __init__(self, run, changes):
        super().__init__(run)
        self.changes = changes

    def __call__(self, message, context):
        reply = super().__call__(message, context)
        said = reply.content["meta"]
        said["upload"] = json.dumps(self.changes.get(said["client"], dict)(json.loads(said["upload"])))
        return reply


def gathered(method, changes, *, least, expected=lambda _: None):
    """The clients that are let in of six, three of each model, and what is told of the others."""
    run = settings(dict.fromkeys(range(6), (1, 0)))
    run = run.model_copy(update={"participation": run.participation.model_copy(update={"min_clients": least})})
    nodes, told = [{"partition-id": position} for position in range(6)], []
    grid = InProcessGrid(Announcing(run, changes), node_configs=nodes, run_config={})
    attendance = Attendance(Post(grid, clock=FakeTime().clock), run, make_method(method, {}), told.append, expected)
    attendance.gather(0)
    return sorted(attendance.peers), told


def without(*names):
    return lambda shapes: {name: shape for name, shape in shapes.items() if name not in names}


def test_without_a_fault_all_are_let_in():
    assert gathered("fedmosaic", {}, least=0) == ([0, 1, 2, 3, 4, 5], [])


@pytest.mark.parametrize(
    ("method", "change", "told"),
    [
        ("fedmosaic", without("sketch"), "client 0 announces no tensor 'sketch', which method 'fedmosaic' needs"),
        ("fedavg", lambda _: {}, "client 0 announces no tensors, which method 'fedavg' needs"),
        ("fedavg", without("sketch"), "client 0 announces no tensor 'sketch', client 1 does"),
        ("fedavg", without(A), f"client 0 announces no tensor '{A}', client 2 does"),
        ("fedavg", lambda shapes: {**shapes, "odd": [1]}, "client 1 announces no tensor 'odd', client 0 does"),
    ],
    ids=range(5),
)
def test_who_announces_other_tensors_than_are_needed_is_refused_in_one_line(method, change, told):
    """Also where its hello is the first: most decide, not the first one."""
    there, warnings = gathered(method, {0: change}, least=2)
    assert there == [1, 2, 3, 4, 5]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"node {FIRST_NODE} is refused: ")
    assert told in warnings[0]
    assert "\n" not in warnings[0]
    with pytest.raises(RunError, match="announces no tensor") as error:
        gathered(method, {0: change}, least=0)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (("phi", {A: (2, 3)}), "the architecture 'llama', the server's own model of it has phi"),
        (("llama", {A: (2, 4)}), f"the tensor '{A}' of shape (2, 3), the server's own model of it has (2, 4)"),
        (("llama", {A: (2, 3), "odd": (1,)}), "the tensor 'odd' of shape none, the server's own model of it has (1,)"),
    ],
    ids=range(3),
)
def test_who_has_another_model_than_the_servers_own_of_it_is_refused(there, told):
    """Also if nobody else has that architecture, so that no other client's hello can be set beside it."""
    names = {P, "sketch"}

    def expected(client):
        shapes = {name: tuple(tensor.shape) for name, tensor in upload(client, 1).items()}
        if client:
            return architecture(client), shapes
        return there[0], {**{name: shapes[name] for name in names}, **there[1]}

    found, warnings = gathered("feddistill", {}, least=2, expected=expected)
    assert found == [1, 2, 3, 4, 5]
    assert len(warnings) == 1
    assert f"client 0 announces {told}, and method 'feddistill' teaches that one; install" in warnings[0]


# ---- which belong together -----------------------------------------------------------------------------------------

LORA = {"layer.0.q.A": (2, 3), "layer.0.q.B": (3, 2), "block.0.q.P": (2, 2), "sketch": (8,)}
PROXY = {"proxy.layer.0.q.A": (2, 3), "proxy.layer.0.q.B": (3, 2)}


def peer(client, architecture, shapes):
    return Peer(client, client + FIRST_NODE, architecture, "", shapes)


def test_a_client_of_another_architecture_without_a_proxys_tensor_does_not_fit():
    one, other = peer(0, "llama", LORA | PROXY), peer(1, "gemma", LORA | PROXY)
    check_fit([one, other])
    lacking = without("proxy.layer.0.q.B")(other.shapes)
    with pytest.raises(RunError, match=r"^client 1 announces no tensor 'proxy.layer.0.q.B', client 0 does; install"):
        check_fit([one, replace(other, shapes=lacking)])


def test_models_may_differ_in_all_that_is_their_own():
    """Layers, blocks whose linears are fused, towers; and a client without a tower."""
    check_fit(
        [
            peer(0, "llama", LORA | {"tower.clip.P": (4, 4), "tower.clip.Q": (4,)}),
            peer(1, "phi", {"layer.7.qkv.A": (2, 9), "block.0.qkv.P": (2, 2), "sketch": (8,), "tower.siglip.Q": (4,)}),
            peer(2, "text", LORA),
        ]
    )


# ---- what comes of clients that have samples of their own ----------------------------------------------------------


def test_clients_with_unequal_numbers_of_samples_of_one_task_end_no_run():
    samples = {0: {"a": (1.0, 1.0, 0.0)}, 1: {"a": (0.0, 1.0)}}
    history = RunHistory({0: ["a"], 1: ["a"]}, round=1)
    assert history.exchanged_scores(samples, None).self_.per_task == {"a": pytest.approx(7 / 12)}
