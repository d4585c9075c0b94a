"""Plans for machines that are not here: what is described, what is predicted, and the recipes for ImageNet."""

import json
from pathlib import Path

import pytest

from potstill.cli.main import main
from potstill.cli.recipe import find_recipe
from potstill.data.synthetic_shape import parse_like
from potstill.errors import PotstillError
from potstill.execution.cluster_spec import parse_cluster
from potstill.planning.phases import ParallelWork, training_phase

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(ROOT.glob("recipes/imagenet-*/*.yaml"))
ONE = "gpus=1,memory=80GB,flops=100T,efficiency=0.5"


def test_machines_are_read_from_words_and_from_a_file(tmp_path):
    words = "nodes=4,gpus=8,memory=80GB,bandwidth=100Gbit,flops=312T,disk=2GB/s,price=2.5"
    found = parse_cluster(words)
    assert (found.devices, found.memory, found.flops, found.bandwidth) == (32, 80 * 10**9, 312e12, 12.5e9)
    assert (found.disk, found.price, found.rate) == (2e9, 2.5, 312e12 * 0.35)
    (tmp_path / "c.yaml").write_text("\n".join(part.replace("=", ": ") for part in words.split(",")))
    assert parse_cluster(str(tmp_path / "c.yaml")) == found
    (tmp_path / "d.yaml").write_text("memory: 80GB\nflops: 312.0e+12\n")
    assert parse_cluster(str(tmp_path / "d.yaml")).flops == 312e12


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "has no '='"),
        ("nodes=4,gpu=8", "no entry is called 'gpu'; did you mean gpus"),
        ("gpus=8,gpus=4", "'gpus' is given twice"),
        ("a\nb=8,a\nb=4", "is given twice"),
        ("no\nde=4", "no entry is called"),
        ("gpus=0,memory=1GB,flops=1T", "gpus must be a whole number from 1"),
        ("gpus=-1", "gpus must be a whole number"),
        ("memory=80", "flops is missing"),
        ("flops=1T", "memory is missing; add memory=80GB"),
        ("nodes=2,memory=80GB,flops=1T", "bandwidth is missing"),
        ("memory=80XB", "memory must be a size such as 80GB"),
        ("flops=nan", "flops must be operations a second"),
        ("efficiency=2", "efficiency must be a part above 0 and at most 1"),
        ("bandwidth=fast", "bandwidth must be a rate such as 100Gbit"),
        ("no-such.yaml", "cannot read the machines"),
    ],
)
def test_machines_that_cannot_be_are_refused_in_one_line(words, says):
    with pytest.raises(PotstillError, match=says) as caught:
        parse_cluster(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("like:imagenet", "did you mean imagenet-1k"),
        ("like:samples=10,classes=2", "shape is missing"),
        ("like:samples=1,classes=2,shape=3x8x8", "cannot be of 2 classes"),
        ("like:samples=10,classes=2,shape=8x8", "shape is channels, height and width"),
        ("like:samples=10,samples=9,classes=2,shape=3x8x8", "described as"),
        ("like:samples=x,classes=2,shape=3x8x8", "samples must be a whole number"),
    ],
)
def test_data_that_cannot_be_are_refused_in_one_line(words, says):
    with pytest.raises(PotstillError, match=says) as caught:
        parse_like(words)
    assert "\n" not in str(caught.value)


def test_more_devices_shorten_a_training_until_the_exchange_of_gradients_bounds_it():
    def training(words):
        return training_phase(
            "t", parse_cluster(words), networks=1, samples=1e6, work=1e11, batch=256, weights=10**8, kept=1e6,
            each=0.0, decode=None,
        )  # fmt: skip

    one, eight = training(ONE), training(ONE.replace("gpus=1", "gpus=8"))
    assert one.compute == pytest.approx(-(-1e6 // 256) * 256 * 1e11 / 50e12, rel=0.01)
    assert one.exchange == 0
    assert one.seconds / 8 < eight.seconds < one.seconds / 7
    slow = training(f"nodes=64,bandwidth=1Gbit,{ONE}")
    assert slow.devices == 1  # exchanging would take longer than working alone
    assert training(f"nodes=64,bandwidth=1000Gbit,{ONE}").devices == 64


def test_what_does_not_fit_is_halved_or_said():
    def steps(memory, held=0):
        work = ParallelWork(
            name="s", operations=1e12, jobs=1, steps=1, batch=100, kept=1e8, weights=10**6, forward=False,
            state_bytes=held,
        )  # fmt: skip
        return work.on(parse_cluster(f"memory={memory},flops=1T"))

    assert (steps("80GB").parts, steps("80GB").fits) == (1, True)
    assert (steps("4GB").parts, steps("4GB").fits) == (4, True)
    assert not steps("4GB", held=5 * 10**9).fits


def test_a_plan_of_data_at_hand_counts_phases_disk_and_money(capsys):
    words = ["plan", "digits", "--method", "sre2l", "--ipc", "2", "--network", "convnet-d1-w8-batch", "--quiet"]
    assert main([*words, "--cluster", "nodes=2,gpus=4,memory=16GB,bandwidth=10Gbit,flops=10T,price=2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["phases"][0]["name"] == "training of networks"
    assert found["seconds"] == pytest.approx(sum(p["seconds"] for p in found["phases"]))
    assert found["gpu_hours"] == pytest.approx(found["seconds"] * 8 / 3600)
    assert found["price"] == pytest.approx(2 * found["gpu_hours"])
    assert 0 < found["busy_hours"] <= found["gpu_hours"]
    assert found["disk"]["total"] == sum(n for name, n in found["disk"].items() if name != "total")
    assert found["disk"]["labels"] == 20 * 300 * 20  # 20 pictures, 300 epochs, 10 classes of 2 bytes
    assert main([*words, "--cluster", ONE]) == 0
    said = capsys.readouterr().out
    assert "measured: a training step" in said
    assert "assumed: 50 GB a second between devices" in said
    assert "% of a device's best rate" not in said  # it was given


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_recipe_of_imagenet_is_found_and_plans_on_a_small_likeness(path, capsys):
    name = f"{path.parent.name}/{path.stem}"
    assert find_recipe(Path(name)) == path
    few = ["--ipc", "1", "--network", "convnet-d2-w4-batch"]
    few += ["--committee", "convnet-d1-w4-batch"] if path.stem == "edc" else []
    data = "like:samples=120000,classes=1000,shape=3x32x32,bytes=500"
    words = ["plan", data, "--recipe", name, *few, "--cluster", ONE, "--json", "--quiet"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    steps = next(p for p in found["phases"] if p["name"] == "steps of the method")
    assert found["items"] == 1000
    assert steps["operations"] > 0
    assert ("reading of the real data" in [p["name"] for p in found["phases"]]) == (path.stem != "sre2l")
    assert found["phases"][0]["name"] == "training of networks"


def test_data_that_are_not_here_need_machines_that_are_not_here(capsys):
    assert main(["plan", "like:imagenet-1k", "--ipc", "1"]) == 1
    assert "which only plan --cluster takes" in capsys.readouterr().err
    assert main(["plan", "digits", "--ipc", "1", "--cluster", ONE, "--profile-steps", "3"]) == 2
    assert main(["plan", "digits", "--ipc", "1", "--students", "rded"]) == 2
