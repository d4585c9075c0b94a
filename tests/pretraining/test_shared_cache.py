"""A cache that machines of several kinds share changes no result: each takes what its own kind has made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from potstill.errors import PotstillWarning
from potstill.pretraining.cache_keys import cache_key, machine_fingerprint, matches_key, warn_other_machines

_RUN = """
import hashlib, json, warnings
import potstill
warnings.simplefilter("always")
data, NET = potstill.load_data("digits"), "convnet-d1-w8"
with warnings.catch_warnings(record=True) as said:
    made = {
        method: potstill.distill(data, method=method, ipc=1, network=NET, seed=0, device="cpu", preset="quick", **more)
        for method, more in {
            "mtt": {"num_experts": 1, "train_epochs": 1, "steps": 2, "codec": "float32"},
            "ncfm": {"pretrained_networks": 1, "pretrain_epochs": 2, "steps": 2, "codec": "float32"},
            "forgetting": {},
        }.items()
    }
    score = potstill.evaluate(
        made["mtt"], data, networks=NET, seeds=1, steps=2, baselines=False, robust_scores=False, device="cpu"
    )
hashes = [hashlib.sha256(s.inputs.numpy().tobytes()).hexdigest() for s in made.values()]
told = [str(w.message) for w in said]
others = sorted({said.split(" that another")[0] for said in told if "another kind of processor" in said})
print(json.dumps({"sets": hashes, "full": score.to_dict()["full"]["mean"], "others": others}))
"""


def _run(cache: Path, capability: str) -> str:
    environment = os.environ | {"POTSTILL_CACHE": str(cache), "ATEN_CPU_CAPABILITY": capability, "POTSTILL_NATIVE": "0"}
    if capability == "default":
        environment["DNNL_MAX_CPU_ISA"] = "SSE41"  # an old processor's convolutions, too
    done = subprocess.run([sys.executable, "-c", _RUN], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_processor_of_another_kind_changes_nothing(tmp_path: Path) -> None:
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this processor can be no other kind")
    alone = _run(tmp_path / "alone", "avx2")
    other = _run(tmp_path / "shared", "default")
    assert '"others": []' in alone, "an empty cache holds nothing of others"
    beside = _run(tmp_path / "shared", "avx2")
    assert alone.split('"others"')[0] == beside.split('"others"')[0], "what another processor kept was taken"
    assert other.split('"others"')[0] != alone.split('"others"')[0], "both kinds have the same bits: a test of nothing"
    for kind in ("trained networks", "expert trajectories", "records of trainings", "networks on all data"):
        assert kind in beside.split('"others"')[1]
    assert '"others": []' in _run(tmp_path / "shared", "avx2"), "its own are there now"


def test_a_name_is_of_the_recipe_and_of_the_machine() -> None:
    cpu, here = torch.device("cpu"), machine_fingerprint()
    name = cache_key({"seed": 1}, here, cpu)
    assert len(name) == 72
    assert cache_key({"seed": 1}, dict(reversed(here.items())), cpu) == name
    assert cache_key({"seed": 1}, {**here, "torch": "0.1"}, cpu)[:56] == name[:56]
    assert (
        len({name, cache_key({"seed": 2}, here, cpu), cache_key({"seed": 1}, {**here, "processor": "NEON"}, cpu)}) == 3
    )


def test_what_an_earlier_version_kept_is_not_called_another_machines(tmp_path: Path) -> None:
    path = tmp_path / f"{cache_key({'seed': 1}, machine_fingerprint(), torch.device('cpu'))}.safetensors"
    (tmp_path / f"{path.stem[:64]}.safetensors").write_text("its names were 64 characters of the same hash")
    warn_other_machines(path, "networks")  # a warning would be an error here
    (tmp_path / f"{path.stem[:56]}{'0' * 16}.safetensors").write_text("another's")
    with pytest.warns(PotstillWarning, match="networks that another kind of processor"):
        warn_other_machines(path, "networks")


def test_a_name_is_known_by_what_it_is_of() -> None:
    name = cache_key({"seed": 1}, machine_fingerprint(), torch.device("cpu"))
    assert matches_key(name, {"seed": 1})
    assert matches_key(f"{name[:56]}{'0' * 16}", {"seed": 1}), "made elsewhere"
    assert not any(matches_key(n, {"seed": 1}) for n in (name[:56], f"{name[:55]}z{name[56:]}", f"{name}0", ""))
    assert not matches_key(name, {"seed": 2})
