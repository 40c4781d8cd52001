"""deploy/cluster.yaml: the Ray cluster launcher accepts it, and its nodes fit the actor pools."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from distilray.pipeline import Compute
from distilray.pipeline.engines.actor_pools import size_pools

CONFIG = Path(__file__).resolve().parent.parent.parent / "deploy/cluster.yaml"


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """Prepare the configuration as `ray up` does: fill in defaults, then validate it."""
    from ray.autoscaler._private.util import prepare_config, validate_config  # imported late, because it takes seconds

    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return config


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return read


def test_the_launcher_accepts_the_configuration(config: dict[str, Any]) -> None:
    prepared = checked(config)
    assert set(prepared["available_node_types"]) == {"head", "cpu", "gpu"}  # no default node type remains
    assert prepared["head_setup_commands"] == prepared["worker_setup_commands"] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("idle_timeout",), 5),
        (("max_workers",), "10"),
        (("available_node_types", "gpu", "min_worker"), 0),
        (("available_node_types", "gpu", "resources", "GPU"), "one"),
        (("head_node_type",), "heads"),
        (("max_workers",), 1),
    ],
)
def test_the_launcher_refuses_mistakes(config: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    wrong = copy.deepcopy(config)
    inner = wrong
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        checked(wrong)


def test_gpus_are_on_spot_nodes_and_all_other_actors_fit_the_other_nodes(config: dict[str, Any]) -> None:
    head, cpu, gpu = (config["available_node_types"][name] for name in ("head", "cpu", "gpu"))
    assert head["resources"] == {"CPU": 0}
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert not any("InstanceMarketOptions" in each["node_config"] for each in (head, cpu))
    assert cpu["min_workers"] == cpu["max_workers"]
    assert (gpu["min_workers"], config["max_workers"]) == (0, cpu["max_workers"] + gpu["max_workers"])
    gpus, cpus = gpu["max_workers"], cpu["max_workers"] * cpu["resources"]["CPU"]
    pools = size_pools(Compute(gpus=gpus), cpus, gpus, remaining_cpus=cpus - cpu["resources"]["CPU"])
    assert (pools.predict.max, pools.tokenize.max) == (gpus, 3 * gpus)
    assert pools.predict.num_cpus <= gpu["resources"]["CPU"]
    assert f"gpus: {gpus}" in CONFIG.read_text()
