"""What stays with a client: every byte that crosses the wire is searched for what does not belong there."""

import contextlib
import re

import numpy as np
import pytest
import torch
from benchmarks._kills import QUESTIONS, tiny
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import message_to_proto
from tests.federation.scenario import SMALL

from fedmosaic.config import resolve
from fedmosaic.errors import DataError, ResidentError, RunError, WireError
from fedmosaic.federation import Assets, ClientRuntime, RunFolder, client_app, engines, forwarding
from fedmosaic.federation.client_errors import safe_text
from fedmosaic.federation.client_store import ClientStore
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.training import ClientState

WINDOW = 16
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
RUNS = {
    "fedmosaic": (r"slot\.local\||memory\|sketch$", ["method.privacy.reproducible_noise=false"]),
    "ditto": (r"slot\.shared\|", []),
    "feddpa": (r"slot\.shared\|", []),
    "fedsa-lora": (r"slot\.shared\|.*\.A$", []),
    "fedalt": (r"slot\.individual\|", []),
    "fedmosaic-proxy": (r"proxy\.slot\.proxy\|", ["method.own=private", "method.weighting=familiarity"]),
}
"""Methods: what of a client's state their papers send, and settings with which they keep more to themselves."""


def hashes(data: bytes, step: int, phases: int) -> np.ndarray:
    """Hashes of windows of 16 bytes, ascending, leaving out those of few values, such as zeros."""
    found = [np.zeros(0, np.uint64)]
    for phase in range(phases):
        words = np.frombuffer(data[phase : phase + (len(data) - phase) // 4 * 4], "<u4").astype(np.uint64)
        if len(words) < 4:
            continue
        four = np.lib.stride_tricks.sliding_window_view(words, 4)[::step]
        varied = (np.diff(np.sort(four, axis=1), axis=1) != 0).all(1) & (four != 0).all(1)
        low, high = four[:, 0] | four[:, 1] << np.uint64(32), four[:, 2] | four[:, 3] << np.uint64(32)
        found.append((low * np.uint64(0x9E3779B97F4A7C15) ^ high * np.uint64(0xC2B2AE3D27D4EB4F))[varied])
    return np.unique(np.concatenate(found))


def of_tensor(tensor: torch.Tensor) -> np.ndarray:
    """Of a tensor's bytes, in any precision in which it could be sent."""
    values = tensor.detach().reshape(-1)
    kinds = DTYPES if values.is_floating_point() else (values.dtype,)
    return np.concatenate(
        [hashes(values.to(kind).view(torch.uint8).numpy().tobytes(), WINDOW // 4, 1) for kind in kinds]
    )


def inside(wanted: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Which of some hashes are among others, which ascend."""
    if not len(there):
        return np.zeros(len(wanted), bool)
    return there[np.searchsorted(there, wanted).clip(max=len(there) - 1)] == wanted


def occurs(wanted: np.ndarray, there: np.ndarray) -> bool:
    return bool(inside(wanted, there).any())


@contextlib.contextmanager
def recorded():
    """Keep the bytes of every message both ways, and every state that a client stores."""
    messages, states = [], []
    deliver, save = InProcessGrid._deliver, ClientStore.save

    def delivering(self, message):
        reply = deliver(self, message)
        both = [message_to_proto(each).SerializeToString() for each in (message, reply.result())]
        messages.append((message.metadata.dst_node_id, *both))
        return reply

    def saving(self, round_, state):
        states.append((int(self.folder.name.removeprefix("client-")), state.tensors()))
        save(self, round_, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InProcessGrid, "_deliver", delivering)
        patch.setattr(ClientStore, "save", saving)
        yield messages, states


def start_of(settings, folder):
    """The tensors that all clients start with."""
    return ClientRuntime(Assets(settings), folder).adapters.start(settings.scenario.clients[0]).tensors().values()


@pytest.mark.slow
@pytest.mark.parametrize("method", RUNS)
def test_private_tensors_and_samples_occur_nowhere_on_the_wire(tmp_path, method):
    sends, overrides = RUNS[method]
    settings = tiny(tmp_path / "data", method, overrides=[*overrides, "training.steps=2"], rounds=2)
    folder = RunFolder.create(tmp_path / "run", settings)
    with recorded() as (messages, states):
        engines.run(settings, folder)
    replies = b"\0".join(reply for _, _, reply in messages)
    everything = replies + b"\0".join(message for _, message, _ in messages)
    there = hashes(everything, 1, 4)
    start = np.unique(np.concatenate(list(map(of_tensor, start_of(settings, tmp_path / "x")))))
    received = {
        client: hashes(b"".join(message for node, message, _ in messages if node == client + 2), 1, 4)
        for client in (0, 1)
    }
    sent = [of_tensor(each) for _, tensors in states for key, each in tensors.items() if re.match(sends, key)]
    public, private = np.unique(np.concatenate(sent)), 0
    known = np.unique(np.concatenate([start, public]))  # A is as it was where B was zero: private ones equal sent ones
    for client, tensors in states:
        for key, tensor in tensors.items():
            own = of_tensor(tensor)
            own = own[~inside(own, known) & ~inside(own, received[client])]
            private += len(own)
            assert not occurs(own, there), f"{key} of client {client}"
    assert private > 1000  # there was something to find,
    assert occurs(public[~inside(public, start)], hashes(replies, 1, 4))  # and it would have been found
    for asked in QUESTIONS.values():
        assert not [text for pair in asked for text in pair if len(text) > 5 and text.encode() in everything]
    keys = [path.read_bytes() for path in folder.client_folder.glob("client-*/secret")]
    assert len(set(keys)) == (2 if method == "fedmosaic" else 0)
    assert not [key for key in keys if key[:32] in everything or key[32:] in everything]


@pytest.mark.slow
def test_no_picture_and_none_of_its_features_occur_on_the_wire(tmp_path):
    settings = resolve(
        SMALL.model_copy(update={"clients": SMALL.clients[:2]}),
        method="fedavg",
        rounds=1,
        overrides=["training.steps=1"],
    )
    with recorded() as (messages, _):
        engines.run(settings, RunFolder.create(tmp_path / "run", settings))
    everything = b"\0".join(part for _, *both in messages for part in both)
    there, seen = hashes(everything, 1, 4), 0
    benchmark, clients = Assets(settings).benchmark, settings.scenario.clients
    for sample in (sample for client in clients for sample in benchmark.task(client.tasks[0]).train[:20]):
        assert sample.prompt.encode() not in everything
        for key in sample.images:
            pixels = hashes(benchmark.images.load(key).convert("RGB").tobytes(), 1, 4)
            assert not occurs(pixels, there)
            seen += len(pixels)
    assert seen > 1000


def test_bytes_are_found_wherever_they_stand():
    secret = torch.randn(40, generator=torch.Generator().manual_seed(0))
    for place in range(5):
        sent = bytes(place) + b"\x01" * 20 + secret.numpy().tobytes() + b"tail"
        assert occurs(of_tensor(secret), hashes(sent, 1, 4))
        assert occurs(
            of_tensor(secret), hashes(bytes(place) + secret.bfloat16().view(torch.uint8).numpy().tobytes(), 1, 4)
        )
        assert not occurs(of_tensor(secret + 1), hashes(sent, 1, 4))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "x", "/home/clinic/patients.csv"), "OSError: No space left on device"),
        (DataError("/home/clinic/patients.csv: record 7 (John) has no answer"), "DataError: its data cannot be used"),
        (RunError("/home/clinic/state is damaged"), "RunError: its state cannot be used"),
        (ResidentError("/home/clinic/resident-0.log says more"), "ResidentError: its resident process does not answer"),
        (KeyError("patients"), "KeyError"),
        (WireError("the server sent 3 bytes"), "WireError: the server sent 3 bytes"),
    ],
)
def test_what_the_server_is_told_of_a_clients_error(error, text):
    told = safe_text(error)
    assert told.startswith(text)
    assert not any(word in told for word in ("clinic", "patients", "John"))


@pytest.mark.parametrize("app", [client_app.app, forwarding.app], ids=["simulation", "deployment"])
@pytest.mark.parametrize("node", [{"partition-id": 0}, {"partition-id": 0, "data": 5, "patients": "/home/clinic"}])
def test_the_app_of_the_other_engines_answers_errors_without_their_texts_and_logs_them_here(
    tmp_path, caplog, app, node
):
    """Flower would send the whole text of what an app raises."""
    path = str(tmp_path / "patients")
    config = {"settings": f"{path} = [", "client-folder": path}
    InProcessGrid(app, node_configs=[node], run_config=config)  # this process speaks now
    message = Message(RecordDict({"meta": ConfigRecord({"run": "x"})}), 2, "query.hello", group_id="0")
    message.metadata.__dict__["_message_id"] = "message-1"
    reply = app(message, Context(1, 2, node, RecordDict(), config))
    assert reply.has_error()
    assert reply.error.reason.startswith("SettingsError: the run's settings do not fit it")
    assert not any(word in reply.error.reason for word in ("patients", "clinic"))
    assert caplog.text.count("Traceback") == 1


def test_a_clients_state_is_where_it_was_after_a_restart(tmp_path):
    state = ClientState({"local": {"a": torch.ones(2)}}, {}, {"m": torch.zeros(1)})
    ClientStore(tmp_path).save(1, state)
    again = ClientStore(tmp_path)
    assert torch.equal(again.load(1).slots["local"]["a"], torch.ones(2))
    for round_ in (2, 3, 4, 3):  # a repeated round replaces its state, and no later one
        again.save(round_, state)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"round-000{n}.safetensors" for n in (2, 3, 4)]
