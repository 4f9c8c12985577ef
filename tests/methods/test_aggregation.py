"""The server halves against hand calculation: pure functions of uploads."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads

P, A = "block.0.q_proj.P", "layer.0.q_proj.A"


def upload(client, architecture, value, sketch):
    """One shared tensor, one that only its architecture understands, and a sketch."""
    width = {"small": 3, "large": 5}[architecture]
    tensors = {P: torch.full((2, 2), float(value)), A: torch.full((2, width), float(value))}
    return Upload(client, architecture, {**tensors, "sketch": torch.tensor(sketch)}, samples=8)


def four():
    return Uploads(
        [
            upload(3, "large", 8.0, [0.0, 1.0]),
            upload(0, "small", 1.0, [1.0, 0.0]),
            upload(1, "small", 2.0, [1.0, 0.0]),
            upload(2, "small", 4.0, [0.0, 1.0]),
        ]
    )


def test_fedmosaic_mixes_by_relevance_p_over_all_and_a_within_the_architecture():
    method = make_method("fedmosaic", {"temperature": 0.5})
    result = method.aggregate(four(), {})
    same, other = torch.exp(torch.tensor(1.0 / 0.5)), torch.exp(torch.tensor(0.0))
    # Client 0: client 1 has its task, 2 and 3 have another.
    expected = (same * 2 + other * 4 + other * 8) / (same + 2 * other)
    torch.testing.assert_close(result.downloads[0][P], expected.expand(2, 2))
    within = (same * 2 + other * 4) / (same + other)
    torch.testing.assert_close(result.downloads[0][A], within.expand(2, 3))
    # Client 3 is alone in its architecture: it gets P, but no A.
    assert A not in result.downloads[3]
    expected = (other * 1 + other * 2 + same * 4) / (same + 2 * other)
    torch.testing.assert_close(result.downloads[3][P], expected.expand(2, 2))
    assert "sketch" not in result.downloads[0]
    torch.testing.assert_close(result.relevance.sum(1), torch.ones(4))


def test_at_high_temperature_fedmosaic_is_the_uniform_mean_of_the_others():
    result = make_method("fedmosaic", {"temperature": 1e6}).aggregate(four(), {})
    torch.testing.assert_close(result.downloads[0][P], torch.full((2, 2), (2.0 + 4 + 8) / 3), atol=1e-4, rtol=0)


@pytest.mark.slow
@given(st.permutations(range(4)), st.floats(0.05, 5))
def test_fedmosaic_does_not_depend_on_the_order_in_which_uploads_arrive(order, temperature):
    method = make_method("fedmosaic", {"temperature": temperature})
    uploads = list(four().values())
    first = method.aggregate(Uploads(uploads), {}).downloads
    again = method.aggregate(Uploads([uploads[i] for i in order]), {}).downloads
    for client, tensors in first.items():
        assert all(torch.equal(tensor, again[client][name]) for name, tensor in tensors.items())


def test_fedmosaic_with_one_client_sends_nothing():
    result = make_method("fedmosaic", {}).aggregate(Uploads([upload(0, "small", 1.0, [1.0, 0.0])]), {})
    assert result.downloads == {0: {}}


def test_fedmosaic_can_learn_from_the_most_similar_only():
    result = make_method("fedmosaic", {"peers": 1}).aggregate(four(), {})
    # Who has client 0's task is 1, and who has 2's is 3; but 3 shares no conventional layer with anybody.
    assert [result.downloads[client][P][0, 0].item() for client in range(4)] == [2.0, 1.0, 8.0, 4.0]
    assert [result.downloads[client][A][0, 0].item() for client in range(3)] == [2.0, 1.0, 1.0]
    assert A not in result.downloads[3]


def test_with_one_client_of_each_architecture_fedmosaic_mixes_p_only():
    two = Uploads([upload(0, "small", 1.0, [1.0, 0.0]), upload(1, "large", 2.0, [1.0, 0.0])])
    result = make_method("fedmosaic", {}).aggregate(two, {})
    assert {client: set(tensors) for client, tensors in result.downloads.items()} == {0: {P}, 1: {P}}
    assert result.downloads[0][P][0, 0] == 2.0


@pytest.mark.parametrize("sketch", [[0.0, 0.0], [float("nan"), 1.0]])
def test_a_client_whose_sketch_says_nothing_gets_the_uniform_mean_and_others_are_not_harmed(sketch):
    uploads = four().updated(Uploads([upload(2, "small", 4.0, sketch)]))
    result = make_method("fedmosaic", {}).aggregate(uploads, {})
    torch.testing.assert_close(result.downloads[2][P], torch.full((2, 2), (1.0 + 2 + 8) / 3))
    assert all(tensor.isfinite().all() for tensors in result.downloads.values() for tensor in tensors.values())


@pytest.mark.parametrize(("name", "settings"), [("fedmosaic", {}), ("fedavg", {"across": True})])
def test_a_newcomer_receives_the_uniform_mean_of_those_whose_tensors_it_can_use(name, settings):
    method, shapes = make_method(name, settings), {P: (2, 2), A: (2, 5), "sketch": (2,)}
    means = method.initial_download("large", shapes, four())
    torch.testing.assert_close(means, {P: torch.full((2, 2), 15 / 4), A: torch.full((2, 5), 8.0)})
    # Nobody has its architecture, or its rank.
    torch.testing.assert_close(
        method.initial_download("huge", {**shapes, A: (2, 9)}, four()), {P: torch.full((2, 2), 15 / 4)}
    )
    assert method.initial_download("large", {P: (3, 3)}, four()) == {}


def test_uploads_are_known_by_their_rounds():
    old, new = Upload(0, "small", {}, round=2), Upload(1, "small", {}, round=4)
    uploads = Uploads([old]).updated(Uploads([new]))
    assert list(uploads.since(3)) == [1]
    assert list(uploads.since(2)) == [0, 1]
    assert uploads.updated(Uploads([Upload(0, "small", {}, round=5)]))[0].round == 5


def test_fedavg_is_the_mean_within_the_architecture_and_only_there():
    result = make_method("fedavg", {}).aggregate(four(), {})
    for client in (0, 1, 2):
        torch.testing.assert_close(result.downloads[client][A], torch.full((2, 3), 7 / 3))
        torch.testing.assert_close(result.downloads[client][P], torch.full((2, 2), 7 / 3))
    torch.testing.assert_close(result.downloads[3][A], torch.full((2, 5), 8.0))


def test_sft_sends_nothing():
    assert make_method("sft", {}).aggregate(four(), {}).downloads == {}


@pytest.mark.parametrize("name", ["fedmosaic", "fedavg", "sft"])
def test_aggregation_leaves_the_uploads_as_they_are(name):
    uploads = four()
    make_method(name, {}).aggregate(uploads, {})
    for client, again in four().items():
        assert all(torch.equal(uploads[client].tensors[key], tensor) for key, tensor in again.tensors.items())


# ---- a tower adapter


TOWER = ("tower.0123abcd.P", "tower.0123abcd.Q")


def on_towers():
    """Two architectures on one tower, and a client of the first on another."""
    tensors = [{TOWER[0]: torch.full((2, 2), value), TOWER[1]: torch.full((2,), value)} for value in (1.0, 2.0, 6.0)]
    other = {name.replace("0123", "9999"): tensor for name, tensor in tensors[0].items()}
    a = {A: torch.ones(2, 3), A.replace(".A", ".B"): torch.ones(3, 2)}
    return Uploads(
        [
            Upload(0, "small", {**tensors[0], **a}),
            Upload(1, "small", {**tensors[1], **a}),
            Upload(2, "large", tensors[2]),
            Upload(3, "small", {**other, **a}),
        ]
    )


@pytest.mark.parametrize(("method", "settings", "mean"), [
    ("fedavg", {}, 1.5), ("ditto", {}, 1.5), ("hetlora", {}, 1.5), ("flexlora", {}, 1.5), ("nefl", {}, 1.5),
    ("fedavg", {"across": True}, 3.0), ("fedmosaic", {"relevance": "uniform"}, 4.0),
])  # fmt: skip
def test_which_tower_adapters_meet_is_the_methods_business(method, settings, mean):
    downloads = make_method(method, settings).aggregate(on_towers(), {}).downloads
    for name in TOWER:
        torch.testing.assert_close(downloads[0][name], torch.full_like(downloads[0][name], mean))
        assert name not in downloads[3]
    if method == "fedmosaic" or settings.get("across"):
        torch.testing.assert_close(downloads[2][TOWER[1]], torch.full((2,), 3.0 if method == "fedavg" else 1.5))


@pytest.mark.parametrize(("method", "settings", "mean"), [
    ("fedavg", {}, 1.5), ("flexlora", {}, 1.5), ("fedavg", {"across": True}, 3.0), ("fedmosaic", {}, 3.0),
])  # fmt: skip
def test_a_newcomer_gets_the_tower_adapter_of_those_whom_its_method_averages(method, settings, mean):
    shapes = {TOWER[0]: (2, 2), TOWER[1]: (2,), A: (2, 3), A.replace(".A", ".B"): (3, 2)}
    start = make_method(method, settings).initial_download("small", shapes, on_towers())
    torch.testing.assert_close(start[TOWER[1]], torch.full((2,), mean))
    assert set(start) == set(shapes)
