"""Every method either follows the rule of aggregation or refuses it by name."""

import pytest
import torch
from tests.methods.lab import Lab
from tests.methods.test_mixtures import State, made_uploads

from fedmosaic.api.preparing import prepare
from fedmosaic.config import load_scenario, resolve
from fedmosaic.config.settings import AggregationSettings
from fedmosaic.errors import SettingsError
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.methods import mixtures
from fedmosaic.methods.aggregators.base import make_aggregator
from fedmosaic.methods.fedavg import FedAvg
from fedmosaic.methods.registry import make_method, method_classes
from fedmosaic.methods.uploads import Upload, Uploads
from fedmosaic.registry import AGGREGATORS

ROBUST = sorted(set(AGGREGATORS) - {"mean"})
FOLLOWING = [
    "ditto", "fed-sb", "fedalt", "fedavg", "feddat", "feddpa", "fedmosaic", "fedmosaic-proxy", "fedprox", "fedsa-lora",
    "fedsim", "ffa-lora", "proxyfl",
]  # fmt: skip
IDLE = ["sft"]


@pytest.mark.parametrize("name", method_classes())
def test_a_method_follows_the_rule_or_refuses_it(name):
    kind = method_classes()[name]
    kind.check_rule("mean")
    if name in FOLLOWING + IDLE:
        kind.check_rule("median")
    else:
        with pytest.raises(SettingsError, match=f"aggregation.rule=median is not for method '{name}'.*rule=mean"):
            kind.check_rule("median")


@pytest.fixture(scope="module", params=FOLLOWING)
def attacked(request):
    """A method and what seven clients upload, of whom the last has a sketch like all others' and huge weights."""
    lab = Lab(request.param, models=("narrow",) * 7)
    adapter = lab.client(0).adapter
    random = torch.Generator().manual_seed(0)

    def upload(client: int, scale: float) -> Upload:
        shapes = lab.method.upload_shapes(adapter)
        tensors = {name: torch.randn(shape, generator=random) * scale for name, shape in shapes.items()}
        if "sketch" in tensors:
            tensors["sketch"] = torch.ones(shapes["sketch"])
        return Upload(client, "narrow", tensors, samples=8, round=1)

    return lab, Uploads([*(upload(client, 1.0) for client in range(6)), upload(6, 1e6)])


def largest(tensors: dict[str, torch.Tensor]) -> float:
    return max(float(tensor.abs().max()) for tensor in tensors.values())


@pytest.mark.slow
def test_an_attacker_is_held_by_every_rule_and_by_the_mean_is_not(attacked, tmp_path):
    lab, uploads = attacked
    for rule in AGGREGATORS:
        downloads = lab.method.aggregate(uploads.combined_by(make_aggregator(rule, 0.2)), State(tmp_path)).downloads
        found = {client: largest(downloads[client]) for client in range(6)}
        assert all((size > 1e4) == (rule == "mean") for size in found.values()), (rule, found)


def test_the_server_combines_by_the_settings_rule_for_newcomers_too(attacked):
    lab, uploads = attacked
    chosen = AggregationSettings(rule="norm-bound", attackers=0.3)
    context = ServerContext(lab.assets(lab.settings.model_copy(update={"aggregation": chosen})))
    assert largest(context.aggregate(uploads, {}, 2).downloads[0]) < 1e4
    shapes = {name: tuple(each.shape) for name, each in uploads[0].tensors.items()}
    assert largest(context.initial_download("narrow", shapes, uploads)) < 1e4
    assert largest(lab.method.initial_download("narrow", shapes, uploads)) > 1e4


def test_who_overrides_how_a_method_aggregates_must_say_that_it_follows_the_rule():
    class Own(FedAvg):
        name = "own"

        def aggregate(self, uploads, state):
            return super().aggregate(uploads, state)

    class Saying(Own):
        name = "saying"
        robust = True

    class Renamed(FedAvg):
        name = "renamed"

    with pytest.raises(SettingsError, match="'own'"):
        Own.check_rule("median")
    Saying.check_rule("median")
    Renamed.check_rule("median")


def test_a_run_is_refused_before_anything_is_made():
    settings = resolve(load_scenario("demo"), method="hetlora", overrides=["aggregation.rule=multi-krum"])
    with pytest.raises(SettingsError, match="'hetlora'"):
        prepare(settings)
    with pytest.raises(SettingsError, match="'hetlora'"):  # nor is it ignored where nobody prepares
        _ = Lab("hetlora").assets(settings).method


@pytest.mark.parametrize("rule", ROBUST)
@pytest.mark.parametrize("peers", [0, 5])
def test_through_disk_every_rule_gives_what_it_gives_in_memory(monkeypatch, tmp_path, rule, peers):
    uploads = made_uploads(12).towards([0, 3, 9, 24, 30]).combined_by(make_aggregator(rule, 0.3))
    method = make_method("fedmosaic", {"peers": peers})
    expected = method.aggregate(uploads, State(tmp_path / "never"))
    plain = method.aggregate(uploads.combined_by(make_aggregator("mean", 0.3)), State(tmp_path / "never"))
    monkeypatch.setattr(mixtures, "_MOST_VALUES_IN_MEMORY", 0)
    monkeypatch.setattr(mixtures, "_RECEIVERS", 2)
    found = method.aggregate(uploads, State(tmp_path))
    torch.testing.assert_close(dict(found.downloads), dict(expected.downloads))
    assert any(not found.downloads[0][name].allclose(tensor) for name, tensor in plain.downloads[0].items())


def test_uploads_keep_their_rule():
    rule = make_aggregator("median", 0.2)
    uploads = made_uploads(3).combined_by(rule)
    for each in (uploads.since(0), uploads.towards([0]), uploads.updated(made_uploads(4))):
        assert each.rule is rule
    assert uploads.towards([3]).combined_by(rule).receivers == [3]
