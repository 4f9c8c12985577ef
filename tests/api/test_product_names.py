"""What a stranger calls the base models of a client's two models, without a run."""

import json

from tests.methods.lab import Lab

from fedmosaic.api.product import write_product
from fedmosaic.federation import ClientRuntime
from fedmosaic.federation.input_digests import InputDigests


def test_the_own_model_has_the_name_that_is_given_and_lies_where_the_run_had_it(tmp_path, monkeypatch):
    monkeypatch.setattr(InputDigests, "check", lambda self, **_: None)
    lab = Lab("fedmosaic-proxy", {"proxy": "narrow"}, models=("wide",))
    runtime = ClientRuntime(lab.assets(lab.settings), tmp_path)
    states, spec = runtime.states, lab.settings.scenario.clients[0]
    for round_ in range(1, lab.settings.rounds + 1):
        states.store(0).save(round_, runtime.adapters.start(spec))
    usage = write_product(runtime, 0, tmp_path, base="some-lab/their-model")
    assert "`own` for `some-lab/their-model`, and `proxy` for `narrow`" in usage
    for part, name in (("own", "some-lab/their-model"), ("proxy", "narrow")):
        assert json.loads((tmp_path / part / "adapter_config.json").read_text())["base_model_name_or_path"] == name
    product = json.loads((tmp_path / "product.json").read_text())
    assert (product["own"], product["proxy"]) == ("wide", "narrow")
