"""What two workers of Ray Train do together: prints one JSON document. Run with a folder for what Ray keeps."""

import json
import sys
from pathlib import Path

import ranked as work
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from potstill.execution import Ranks, run_on_ranks


def loop(given: dict[str, str]) -> None:
    """Of every worker; twice, as the process group stays."""

    ranks = Ranks(min_samples=1)

    def some() -> dict[str, object]:
        return {"gradients": work.gradients(ranks), "distilled": work.distilled(ranks), "world": ranks.world}

    first, second = run_on_ranks(some, ranks), run_on_ranks(lambda: "again")
    if first is not None:
        Path(given["out"]).write_text(json.dumps({**first, "second": second}))


def main() -> None:
    folder = Path(sys.argv[1])
    here = str(Path(__file__).parent)
    ray.init(
        num_cpus=4, include_dashboard=False, _temp_dir=sys.argv[2], log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": ":".join([here, *sys.path]), "GLOO_SOCKET_IFNAME": "lo"}},
    )  # fmt: skip
    TorchTrainer(
        loop, train_loop_config={"out": str(folder / "told.json")}, torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=2), run_config=RunConfig(storage_path=str(folder)),
    ).fit()  # fmt: skip
    print((folder / "told.json").read_text(), flush=True)


if __name__ == "__main__":
    main()
