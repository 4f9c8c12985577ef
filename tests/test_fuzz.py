"""Whatever a peer sends or a file holds: it is read, or refused by a named error of one line."""

import io
import json
import math
import warnings
from importlib import resources

import numpy as np
import pytest
import tomli_w
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmosaic.config import RunSettings, Scenario, resolve
from fedmosaic.config.scenarios import load_scenario
from fedmosaic.config.settings import varied
from fedmosaic.data.published import PublishedBenchmark
from fedmosaic.errors import DataError, RunError, SettingsError, WireError
from fedmosaic.federation import wire
from fedmosaic.federation.encodings import ENCODINGS
from fedmosaic.federation.peers import Peer, introduction
from fedmosaic.federation.reply_checks import ReplyChecks
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.io import load_tensors, save_tensors
from fedmosaic.methods.registry import make_method
from fedmosaic.training import ClientState

fuzzed = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCENARIO = (resources.files("fedmosaic.config") / "scenarios" / "mosaic40-small.toml").read_text(encoding="utf-8")
SHAPES = {"layer.0.q.A": (2, 3), "block.0.q.Q": (4,), "sketch": (8,)}
RUN = resolve(Scenario(name="one", clients=[{"id": 7, "model": "tiny-llama", "tasks": ["bars"]}]), rounds=3)
PEER = Peer(7, 2, "llama", "", SHAPES, downloads=SHAPES)
DONE = {"loss": 1.0, "steps": 2, "samples": 8, "flops": 1e9, "seconds": 0.5, "evaluation_seconds": 0.5}


def named(error, read, *args, **kwargs):
    """What a reader returns, or None where it raises the error that it promises."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read(*args, **kwargs)
        except error as told:
            assert str(told).strip()
            return None


@st.composite
def damaged(draw, whole: bytes):
    """Bytes with some flipped, cut out, repeated or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.sampled_from([0, 1, 4, 40, len(content)])))
        other = draw(st.binary(max_size=12) | st.just(bytes(content[start:stop]) * 2))
        content[start:stop] = other
    return bytes(content)


def json_values(limit=10):
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    return st.recursive(
        leaves,
        lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=8), x, max_size=4),
        max_leaves=limit,
    )


# ---- the wire ------------------------------------------------------------------------------------------------------


def npy():
    stream = io.BytesIO()
    np.save(stream, np.ones(18, np.float32))
    return stream.getvalue()


numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
NO_JSON = [f'{{"a":[{"1" * 5000}]}}', '{"a":' + "[" * 10**5, '{"a":[1e999]}']
"""Texts that Python's parser of JSON refuses in ways of its own, or reads as what JSON does not know."""
texts = st.text(max_size=12) | st.sampled_from([wire.schema_hash(SHAPES), json.dumps(SHAPES), *NO_JSON])
config = st.dictionaries(
    st.sampled_from(["client", "round", "run", "hash", "tensors", "upload"]) | st.text(max_size=5),
    numbers | texts | st.booleans() | st.binary(max_size=5) | st.lists(st.integers(0, 9), max_size=3),
    max_size=5,
).map(ConfigRecord)
metrics = st.dictionaries(
    st.sampled_from([*DONE, "privacy.epsilon", "bars"]), numbers | st.lists(st.floats(), max_size=3)
).map(MetricRecord)
arrays = st.builds(
    Array,
    dtype=st.sampled_from(["float32", "uint8", "float64"]) | st.text(max_size=5),
    shape=st.just((18,)) | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3).map(tuple),
    stype=st.just("numpy.ndarray") | st.text(max_size=5),
    data=damaged(npy()),
)
records = config | metrics | st.dictionaries(st.just("flat") | st.text(max_size=5), arrays, max_size=3).map(ArrayRecord)


@pytest.mark.parametrize("uploads", ENCODINGS)
@fuzzed
@given(data=st.data())
def test_replies_and_requests(uploads, data):
    run = varied(RUN, [f"wire.uploads={uploads}"])
    sent = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    about = {"client": 7, "round": 1, "run": run.digest}
    content = wire.add_metrics(wire.pack(about, sent, agreed=SHAPES, encoding=ENCODINGS[uploads]), DONE)
    wire.add_scores(content, {"bars": [0.0, 1.0]})
    places = st.sampled_from(["meta", "metrics", "schema", "tensors", "scores"]) | st.text(max_size=5)
    changes = data.draw(st.dictionaries(places, records, max_size=2))
    if data.draw(st.booleans()):
        flat = content["tensors"]["flat"]
        changes["tensors"] = ArrayRecord(
            {"flat": Array(flat.dtype, flat.shape, flat.stype, data.draw(damaged(flat.data)))}
        )
    for name, record in changes.items():
        content[name] = record
    checks = ReplyChecks(run, make_method("fedmosaic", {}))
    got = named(WireError, checks.train_reply, PEER, content, 1, others=False)
    if got is not None:
        assert {name: tuple(tensor.shape) for name, tensor in got.tensors.items()} == SHAPES
        assert all(bool(tensor.isfinite().all()) for tensor in got.tensors.values())
        assert 1 <= got.samples <= 10**9
    scores = named(WireError, checks.scores_reply, PEER, content, 1)
    if scores is not None:
        assert all(0 <= value <= 1 for values in scores.scores.values() for value in values)
    named(WireError, wire.unpack, content, SHAPES, sender="the server", elastic=True)


@fuzzed
@given(
    upload=json_values().map(json.dumps)
    | damaged(json.dumps(SHAPES).encode()).map(lambda b: b.decode(errors="replace"))
    | st.sampled_from(NO_JSON),
    other=config,
)
def test_hellos(upload, other):
    good = {"client": 7, "architecture": "a", "model": "m", "alignment": "", "proxy": "", "own-tasks-only": False}
    got = named(WireError, introduction, 2, wire.pack({**good, "upload": upload, "download": upload}))
    if got is not None:
        assert sum(map(math.prod, got.shapes.values())) <= 2**31
    named(WireError, introduction, 2, RecordDict({"meta": other}))


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.toml", "a.json"])
@fuzzed
@given(data=st.data())
def test_scenarios(tmp_path, name, data):
    whole = (
        SCENARIO.encode()
        if name == "a.toml"
        else json.dumps([{"client_id": 0, "model_id": "m", "datasets": []}]).encode()
    )
    path = tmp_path / name
    path.write_bytes(data.draw(damaged(whole) | st.binary(max_size=40) | st.sampled_from(NO_JSON).map(str.encode)))
    named(SettingsError, load_scenario, str(path))


@fuzzed
@given(
    table=st.dictionaries(st.sampled_from([*Scenario.model_fields, "x"]), json_values(20), max_size=5),
    listed=json_values(20),
)
def test_scenarios_of_any_structure(tmp_path, table, listed):
    path = tmp_path / "a.toml"
    path.write_text(tomli_w.dumps(without_none(table)), encoding="utf-8", errors="surrogateescape")
    named(SettingsError, load_scenario, str(path))
    (tmp_path / "a.json").write_text(json.dumps(listed))
    named(SettingsError, load_scenario, str(tmp_path / "a.json"))


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(each) for key, each in value.items() if each is not None}
    return [without_none(each) for each in value if each is not None] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "text", ["rounds = " + "9" * 5000, "x = " + "[" * 5000, 'name = "a"\nname = "b"', "x = 1979-13-01"]
)
def test_settings_that_no_parser_takes(tmp_path, text):
    for name, read in [("a.toml", lambda path: load_scenario(str(path))), ("settings.toml", RunSettings.from_toml)]:
        (tmp_path / name).write_text(text)
        with pytest.raises(SettingsError, match=name):
            read(tmp_path / name)
    with pytest.raises(SettingsError, match="rounds"):
        varied(RUN, [f"rounds={text.removeprefix('rounds = ')}"])


@fuzzed
@given(data=st.data())
def test_settings_of_a_run(tmp_path, data):
    path = tmp_path / "settings.toml"
    path.write_bytes(data.draw(damaged(RUN.to_toml().encode())))
    named(SettingsError, RunSettings.from_toml, path)


RECORD = {"id": "1", "image": [], "conversations": [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}]}


@pytest.mark.slow
@pytest.mark.parametrize("skip_bad", [False, True])
@fuzzed
@given(data=st.data())
def test_published_data(tmp_path, skip_bad, data):
    for split in ("train", "test"):
        folder = tmp_path / "dataset" / "a" / split
        folder.mkdir(parents=True, exist_ok=True)
        wild = st.lists(
            json_values() | st.fixed_dictionaries({key: json_values() | st.just(RECORD[key]) for key in RECORD})
        )
        content = data.draw(
            damaged(json.dumps([RECORD] * 3).encode())
            | wild.map(lambda x: json.dumps(x).encode())
            | st.sampled_from(NO_JSON).map(str.encode)
        )
        (folder / "dataset-0.json").write_bytes(content)
    named((DataError, SettingsError), lambda: PublishedBenchmark(tmp_path, skip_bad=skip_bad).task("a-0"))


@fuzzed
@given(data=st.data())
def test_tensors_on_disk(tmp_path, data):
    path = tmp_path / "round-0001.safetensors"
    save_tensors(path, {"slot.local|layer.0.q.A": torch.ones(2, 3), "memory|rank": torch.tensor(3)}, {"round": "1"})
    path.write_bytes(data.draw(damaged(path.read_bytes()) | st.binary(max_size=40)))
    named(RunError, lambda: ClientState.from_tensors(load_tensors(path)))


@fuzzed
@given(keys=st.lists(st.text("slotgaemryxp.|", max_size=30), max_size=5))
def test_keys_of_a_client_s_state(keys):
    named(RunError, ClientState.from_tensors, {key: torch.zeros(1) for key in keys})
    with pytest.raises(RunError, match="proxy"):
        ClientState.from_tensors({"proxy." * 5000 + "gate|x": torch.zeros(1)})


@fuzzed
@given(data=st.data())
def test_relevance_matrices(tmp_path, data):
    folder = RunFolder(tmp_path)
    folder.write_relevance(1, torch.eye(3), torch.eye(3))
    path = tmp_path / "relevance" / "round-0001.npz"
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    named(RunError, folder.relevance)
