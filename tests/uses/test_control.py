"""Behaviour distillation: policies beside torch's own, episodes beside a plain loop, and whole runs with bad input."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

import potstill
from potstill.cli.main import main
from potstill.errors import PotstillError
from potstill.reports.control import cells_of
from potstill.rng import generator
from potstill.uses.control import Cloning, Evolution, PolicyShape, control
from potstill.uses.control.environment import open_environment, state_statistics
from potstill.uses.control.pair_files import build_pairs, read_pairs
from potstill.uses.control.policies import clone, parse_policy, to_rows
from potstill.uses.control.search import Found, Pairs, PairSearch, WeightSearch, evolve, make_trainer, search_randomly

gymnasium = pytest.importorskip("gymnasium")
SHORT = Evolution(generations=2, population=4, episodes=1, check_every=1, check_episodes=2)
QUICK = {
    "evolution": SHORT,
    "cloning": Cloning(updates=5),
    "students": 2,
    "episodes": 1,
    "policies": ("mlp:4", "linear"),
}


def as_module(shape: PolicyShape, weights, n: int, inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(shape.sizes(inputs, outputs)):
        layer = nn.Linear(a, b)
        layer.weight.data, layer.bias.data = weights[f"w{i}"][n].T.clone(), weights[f"b{i}"][n, 0].clone()
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("discrete", [True, False])
def test_networks_side_by_side_learn_as_torch_trains_each_alone(discrete):
    shape, k = PolicyShape((5, 3)), 4
    weights = shape.draw(3, 2, 2, generator(0, "w"))
    states = torch.randn(3, k, 2, generator=generator(1, "s"))
    targets = torch.tensor([[0, 1, 0, 1]] * 3) if discrete else torch.rand(3, k, 2, generator=generator(2, "t")) * 2 - 1
    learned = clone(shape, weights, states, targets, Cloning(updates=7, lr=0.05))
    for n in range(3):
        net = as_module(shape, weights, n, 2, 2)
        opt = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(7):
            out = net(states[n])
            loss = nn.functional.cross_entropy(out, targets[n]) if discrete else nn.functional.mse_loss(out, targets[n])
            opt.zero_grad()
            loss.backward()
            opt.step()
        torch.testing.assert_close(shape(learned, states)[n], net(states[n]).detach(), atol=1e-5, rtol=1e-4)


def test_weights_become_rows_and_come_back():
    shape = parse_policy("mlp:3-2")
    weights = shape.draw(4, 5, 2, generator(0, "w"))
    rows = to_rows(weights)
    assert rows.shape == (4, shape.count(5, 2)) == (4, 18 + 8 + 6)
    again = shape.from_rows(rows, 5, 2)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_returns_are_those_of_a_plain_loop(name):
    env, shape = open_environment(name), PolicyShape((3,))
    weights = shape.draw(2, env.state_size, env.action_size, generator(0, "w"))

    def act(states):
        out = shape(weights, states)
        return out.argmax(2) if env.discrete else out

    found = env.rollouts(act, 2, [5, 6, 7], keep_states=True)
    steps = 0
    for p in range(2):
        for e, seed in enumerate([5, 6, 7]):
            one, total, done = gymnasium.make(name), 0.0, False
            state, _ = one.reset(seed=seed)
            while not done:
                out = as_module(shape, weights, p, env.state_size, env.action_size)(torch.tensor(state)).detach()
                action = int(out.argmax()) if env.discrete else 2 * out.numpy().clip(-1, 1)
                state, reward, end, cut, _ = one.step(action)
                total, done, steps = total + float(reward), end or cut, steps + 1
            assert float(found.returns[p, e]) == pytest.approx(total, rel=1e-4)
    assert found.steps == steps == len(found.states)


def test_constant_values_of_a_state_have_deviation_one():
    mean, std = state_statistics(torch.tensor([[1.0, 3.0], [1.0, 5.0]]))
    assert (mean.tolist(), std.tolist()) == ([1.0, 4.0], [1.0, 1.0])


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_pairs_come_back_from_their_file(name, tmp_path):
    env = open_environment(name)
    trainer, _ = make_trainer(env, "linear", Cloning(), 0, 2)
    search = PairSearch(trainer=trainer, items=3)
    states, actions = search.pairs(search.start(generator(0, "pairs"))[None])
    build_pairs(Pairs(states=states[0], actions=actions[0]), trainer, {}, 0, 7).save(tmp_path / "s.safetensors")
    small = potstill.load(tmp_path / "s.safetensors")
    pairs = read_pairs(small, env)
    torch.testing.assert_close(pairs.states, states[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pairs.actions, actions[0], atol=1e-5, rtol=1e-5)
    assert small.metadata["source"]["simulator_steps"] == 7


def test_the_mean_of_an_evolution_climbs_a_hill():
    class Hill:
        def start(self, rng):
            return torch.zeros(3)

        def scores(self, rows, episodes, rng):
            return -(rows - torch.tensor([1.0, -2.0, 3.0])).square().sum(1), len(rows) * episodes

    settings = Evolution(generations=150, sigma=0.1, lr=0.1, population=16)
    found = evolve(Hill(), settings, 0, lambda *_: None)
    torch.testing.assert_close(found.row, torch.tensor([1.0, -2.0, 3.0]), atol=0.2, rtol=0)
    assert found.steps == 150 * 16 * 2 + 16 * 16
    lazy = search_randomly(Hill(), Evolution(population=4, episodes=2), 0, 20)
    assert isinstance(lazy, Found)
    assert lazy.steps == 24 + 8 * 16


def test_an_interrupted_evolution_goes_on_to_the_same_bits(tmp_path):
    trainer, _ = make_trainer(open_environment("CartPole-v1"), "mlp:4", Cloning(updates=3), 0, 2)
    search, settings = PairSearch(trainer=trainer, items=2), Evolution(generations=13, population=4, check_every=5)
    whole = evolve(search, settings, 3, lambda *_: None)

    def interrupt(done, total):
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolve(search, settings, 3, interrupt, tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["state"]["generation"] == 10
    with pytest.raises(PotstillError, match="other settings"):
        evolve(search, settings, 4, lambda *_: None, tmp_path / "c.json")
    again = evolve(search, settings, 3, lambda *_: None, tmp_path / "c.json")
    assert torch.equal(again.row, whole.row)
    assert (again.score, again.steps, again.curve) == (whole.score, whole.steps, whole.curve)
    assert not (tmp_path / "c.json").exists()


def test_pairs_of_a_known_good_policy_teach_balance():
    """What balances the pole is known: push towards the side to which it falls."""
    env = open_environment("CartPole-v1")
    trainer, _ = make_trainer(env, "mlp:16", Cloning(), 0, 10)
    good = torch.tensor([[0.0, 0.0, -0.1, -0.5], [0.0, 0.0, 0.1, 0.5]])
    rows = trainer.normalise(good).reshape(1, -1)
    taught, _ = PairSearch(trainer=trainer, items=2).scores(rows, 10, generator(0, "t"))
    wrong, _ = PairSearch(trainer=trainer, items=2).scores(-rows, 10, generator(0, "t"))
    assert float(taught[0]) > 100 > 20 > float(wrong[0])


def test_a_run_is_whole_and_the_same_again(tmp_path, capsys):
    result = control("CartPole-v1", out=tmp_path / "a", sets=2, **QUICK)
    assert [row["name"] for row in result["rows"]] == [
        "set", "random-pairs", "random-search", "policy-pairs", "more-policy-pairs", "policy", "linear-policy",
        "random-actions",
    ]  # fmt: skip
    page = (tmp_path / "a" / "control.html").read_text()
    assert all(cell in page for row in result["rows"] for cell in cells_of(row, result))
    small = potstill.load(tmp_path / "a" / "pairs-0.safetensors")
    assert (len(small), list(small.classes), small.metadata["method"]) == (2, ["0", "1"], "behaviour")
    again = control("CartPole-v1", out=tmp_path / "b", sets=2, **QUICK)
    for one, other in zip(result["cells"], again["cells"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    steps = {c["name"]: c["steps"] for c in result["cells"] if c["seed"] == 0}
    assert steps["random-search"] >= steps["set"] > 0
    measured = control("CartPole-v1", out=tmp_path / "c", distilled=tmp_path / "a" / "pairs-0.safetensors", **QUICK)
    assert measured["rows"][0]["returns"]["mlp:4"]["values"] == result["cells"][0]["returns"]["mlp:4"]
    with pytest.raises(PotstillError, match="other settings or data"):
        control("CartPole-v1", out=tmp_path / "a", items=3, **QUICK)


def test_actions_in_a_range(tmp_path):
    result = control("MountainCarContinuous-v0", out=tmp_path, **{**QUICK, "evolution": SHORT, "policies": ("linear",)})
    small = potstill.load(tmp_path / "pairs-0.safetensors")
    assert small.metadata["task"]["name"] == "regression"
    assert small.labels.abs().max() <= 1
    assert np.isfinite([row["returns"][p]["mean"] for row in result["rows"] for p in row["returns"]]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["NoSuch-v9"], "no simulator of Gymnasium"),
        (["CartPole-v1", "--items", "1"], "2 actions need as many pairs, not 1"),
        (["CartPole-v1", "--population", "3"], "population must be an even number"),
        (["CartPole-v1", "--sigma", "0"], "sigma and lr must be above 0"),
        (["CartPole-v1", "--policies", "cnn"], "a policy is linear or mlp"),
        (["FrozenLake-v1"], "states must be rows of numbers"),
        (["CartPole-v1", "--set", "digits.safetensors"], "a state has 4 numbers, but the set has 1×8×8 numbers"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "--set" in words:
        potstill.distill("digits", "random", ipc=1, progress=None).save("digits.safetensors")
    assert main(["use", "control", *words, "--out", "o"]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert re.search(re.escape(message), line)
    assert not (tmp_path / "o" / "control.json").exists()


def test_a_simulator_needs_gymnasium(monkeypatch, tmp_path):
    import builtins

    real = builtins.__import__
    monkeypatch.delitem(__import__("sys").modules, "gymnasium")

    def refuse(name, *rest):
        if name.startswith("gymnasium"):
            raise ModuleNotFoundError(name, name="gymnasium")
        return real(name, *rest)

    monkeypatch.setattr("importlib.import_module", lambda name: refuse(name))
    with pytest.raises(PotstillError, match=r"pip install 'potstill\[control\]'"):
        open_environment("CartPole-v1")


def test_a_search_of_weights_scores_what_it_returns():
    trainer, _ = make_trainer(open_environment("CartPole-v1"), "linear", Cloning(), 0, 2)
    search = WeightSearch(trainer=trainer)
    row = search.start(generator(0, "w"))
    twice, steps = search.scores(torch.stack([row, row]), 3, generator(1, "e"))
    assert twice[0] == twice[1]
    assert steps == int(2 * 3 * twice[0])  # CartPole pays 1 for each step
