"""Flower's simulation sends sets of its clients once, and the server joins them to the same bits as without Flower.

``flwr`` holds other packages back, so it has an environment of its own (``make test-flower``); elsewhere one test runs.
"""

import importlib.util
import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.uses.federated import Client, Learner, dirichlet_partition, encode_message, make_clients, parse_way
from potstill.uses.federated.models import train_on_sets

HAS_FLOWER = importlib.util.find_spec("flwr") is not None
pytestmark = pytest.mark.filterwarnings("ignore")  # Flower's and Ray's own
CLIENTS = 6
NETWORK = "convnet-w8-d1"
WAY = parse_way("dm", steps=5, network=NETWORK)


def digits() -> Splits:
    return potstill.load_data("digits")


def all_clients() -> list[Client]:
    train: Any = digits().train
    return make_clients(train, dirichlet_partition(train, CLIENTS, 0.1, 0), 6000, 7)


def train(x: Tensor, y: Tensor) -> nn.Module:
    like: Any = digits().test
    return train_on_sets(Learner(network=NETWORK, steps=60), NETWORK, x, y, like, 3)


def simulate(load: Any, **options: Any) -> tuple[Any, Any]:
    """Return the strategy and Flower's result after a simulation."""
    from flwr.app import ArrayRecord
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    from potstill.integrations.flower import SetStrategy, client_app

    app, made = ServerApp(), list[Any]()

    @app.main()  # type: ignore[untyped-decorator]
    def serve(grid: Any, context: Any) -> None:
        strategy = SetStrategy(digits().test, train, min_available_nodes=CLIENTS, fraction_evaluate=0.0, **options)
        made.append(strategy)
        made.append(strategy.start(grid, ArrayRecord(), num_rounds=1, timeout=200))

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}}
    run_simulation(app, client_app(load, WAY), CLIENTS, backend_config=resources)
    assert len(made) == 2, "the server app ended before the strategy did"
    return made[0], made[1]


def load(context: Any) -> Client:
    return all_clients()[int(context.node_config["partition-id"])]


def load_or_fail(context: Any) -> Client:
    number = int(context.node_config["partition-id"])
    if number == 1:
        raise RuntimeError("the disk of this client is full")
    return all_clients()[number]


def load_or_die(context: Any) -> Client:
    number = int(context.node_config["partition-id"])
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return all_clients()[number]


@pytest.mark.skipif(HAS_FLOWER, reason="flwr is here")
def test_without_flower_one_line_says_what_to_install() -> None:
    with pytest.raises(PotstillError, match=r"needs the package flwr; pip install 'potstill\[flower\]'"):
        importlib.import_module("potstill.integrations.flower")


@pytest.mark.skipif(not HAS_FLOWER, reason="needs flwr, in an environment of its own")
def test_a_simulation_joins_the_sets_of_all_clients_to_the_same_bits() -> None:
    strategy, result = simulate(load)
    sent = [m for client in all_clients() if (m := WAY.message(client)) is not None]
    done = strategy.collected
    assert torch.equal(done.x, torch.cat([m.x for m in sent]))
    assert torch.equal(done.y, torch.cat([m.y for m in sent]))
    assert torch.equal(done.merged.model_space(), done.x)
    assert done.missing == ()
    assert done.up == sum(len(encode_message(m)) for m in sent)
    expected = train(done.x, done.y).state_dict()
    arrays = result.arrays.to_torch_state_dict()
    assert arrays.keys() == expected.keys()
    assert all(torch.equal(arrays[name], value) for name, value in expected.items())
    assert result.train_metrics_clientapp[1]["bytes"] == done.up


@pytest.mark.skipif(not HAS_FLOWER, reason="needs flwr, in an environment of its own")
@pytest.mark.parametrize(("load_one", "gone"), [(load_or_fail, 1), (load_or_die, 4)])
def test_a_simulation_goes_on_without_a_client_that_fails_or_is_killed(load_one: Any, gone: int) -> None:
    strategy, result = simulate(load_one)
    assert gone in strategy.collected.missing
    sent = [WAY.message(c) for n, c in enumerate(all_clients()) if n in strategy.collected.answered]
    assert len(sent) >= 1
    assert torch.equal(strategy.collected.x, torch.cat([m.x for m in sent if m is not None]))
    assert f"client {gone} did not answer" in strategy.collected.summary or len(strategy.collected.missing) > 1
    assert result.train_metrics_clientapp[1]["missing"] == len(strategy.collected.missing)


@pytest.mark.skipif(not HAS_FLOWER, reason="needs flwr, in an environment of its own")
def test_replies_that_are_no_sets_are_refused() -> None:
    from flwr.app import ConfigRecord, Message, MessageType, RecordDict

    from potstill.integrations.flower import SetStrategy, reply_with_set

    request = Message(content=RecordDict(), message_type=MessageType.TRAIN, dst_node_id=1)
    strategy = SetStrategy(digits().test)
    reply = Message(content=RecordDict({"mine": ConfigRecord({"set": b""})}), reply_to=request)
    with pytest.raises(PotstillError, match="let clients answer with reply_with_set or client_app"):
        strategy.aggregate_train(1, [reply])
    sent = WAY.message(all_clients()[0])
    two = [reply_with_set(request, sent, 0), reply_with_set(request, sent, 0)]
    with pytest.raises(PotstillError, match="two clients have number 0"):
        strategy.aggregate_train(1, two)
    with pytest.raises(PotstillError, match="sets are sent in one round, but this is round 2"):
        strategy.configure_train(2, None, ConfigRecord(), None)  # type: ignore[arg-type]
