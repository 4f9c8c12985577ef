"""Each organisation has its own data and model, the probe and one alignment; the server has none of these."""

import shutil

import pytest
from tests.text_only import make_data, make_models

from fedmosaic.config import Scenario, home, resolve
from fedmosaic.federation import RunFolder, client_app, server_app
from fedmosaic.federation.alignment import make_alignment
from fedmosaic.federation.grid import InProcessGrid

FAMILIES = {"hospital": "llama", "clinic": "gemma", "lab": "neox"}
TASKS = {"hospital": "Capitals-0", "clinic": "Colours-0", "lab": "Capitals-0"}


@pytest.fixture
def sites(tmp_path, home):
    """A folder for each organisation with its own task and model; what they were made from is gone."""
    make_models(tmp_path / "all", *FAMILIES.values())
    make_data(tmp_path / "data")
    bases = [str(tmp_path / "all" / family) for family in FAMILIES.values()]
    make_alignment(bases, home=home, rank=4, blocks=1, samples=60).save(tmp_path / "bases")
    for name, family in FAMILIES.items():
        site = tmp_path / name
        task = TASKS[name].removesuffix("-0")
        shutil.copytree(tmp_path / "data" / "dataset" / task, site / "data" / "dataset" / task)
        shutil.copytree(tmp_path / "all" / family, site / "model")
        shutil.copytree(tmp_path / "all" / "llama", site / "probe")
        shutil.copytree(tmp_path / "bases", site / "bases")
    for folder in ("all", "data", "bases"):
        shutil.rmtree(tmp_path / folder)
    return {name: tmp_path / name for name in FAMILIES}


@pytest.mark.slow
def test_a_run_needs_nothing_at_a_site_that_is_anothers(sites, tmp_path):
    clients = [
        {"id": number, "model": f"the model of {name}", "tasks": [TASKS[name]]} for number, name in enumerate(sites)
    ]
    scenario = Scenario(
        benchmark="published",
        probe="the probe",
        clients=clients,
        settings={
            "rounds": 2,
            "training": {"steps": 2, "batch_size": 4},
            "adapter": {"blocks": 1, "rank": 4},
            "engine": "deployment",
        },
    )
    settings = resolve(scenario, method="fedmosaic")
    folder = RunFolder.create(tmp_path / "run", settings)
    nodes = [
        {
            "partition-id": number,
            "own-tasks-only": True,
            **{key: str(site / key) for key in ("data", "model", "probe", "state")},
            "alignment": str(site / "bases"),
        }
        for number, site in enumerate(sites.values())
    ]
    heard = []

    def recorded(message, context):
        reply = app(message, context)
        heard.append(str(reply.content.config_records) + str(list(reply.content.array_records)))
        return reply

    app = client_app.make_app()
    config = {"settings": settings.to_toml(), "run": "first"}
    server_app.serve(InProcessGrid(recorded, node_configs=nodes, run_config=config), settings, folder)
    results = folder.results()
    assert results is not None
    assert results.self_ is not None
    assert results.others is None
    assert len(heard) == 3 * (1 + 1 + 2 + 1)  # hello, base, trained and scored twice, and the last exchange
    assert not [text for text in heard if str(tmp_path) in text]
    assert not (home() / "alignment" / "lock").exists()
    for number, site in enumerate(sites.values()):
        assert {path.name for path in (site / "state").rglob("client-*")} == {f"client-{number:03d}"}
        assert list((site / "state").rglob("round-0002.safetensors"))
