"""An example of each command with what it prints: run once, stored, and shown on the command's page.

python -m tools.docs.command_examples    run all of them anew, in a temporary folder

The file next to this one holds the output of each and the keys of its JSON document.
"""

import contextlib
import io
import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.cli.main import main as run_command

__all__ = ["EXAMPLES", "NOT_RUN", "PATH", "run_examples", "stored_examples"]

PATH = Path(__file__).with_suffix(".json")
EXAMPLES = (
    "potstill distill digits --method dm --ipc 10 --steps 50 --network convnet-w32 --codec uint8 "
    "--out small.safetensors",
    "potstill plan digits --method dm --ipc 10 --profile-steps 0",
    "potstill evaluate small.safetensors --data digits --quick --seeds 2 --network linear --out small.scorecard.json",
    "potstill label small.safetensors --data digits --network convnet-w16-d2 --epochs 5 --teacher-epochs 10 "
    "--out labels.safetensors",
    "potstill score digits --methods el2n --epochs 3 --runs 1 --network convnet-w16-d2 --out scores.parquet",
    "potstill compare digits --methods dm,herding --ipc 1 --seeds 2 --network mlp-w32 --out comparison",
    "potstill scaling digits --ipc 1,2,5,10 --teacher-epochs 2,5 --repeats 2 --steps 20 --network convnet-w16-d2 "
    "--out law",
    "potstill use search digits --networks mlp-w4,mlp-w16,mlp-w64,convnet-d1-w4 --lr 0.001,0.01 --updates 40 "
    "--out found",
    "potstill use continual digits --methods dm --distill-steps 5 --bytes 2kB --orders 2 --updates 20 "
    "--network convnet-w8-d1 --out stream",
    "potstill use federated digits --ways averages,real,fedavg:5,alone --clients 3 --splits 2 --bytes 3kB "
    "--updates 30 --networks convnet-w8-d1 --out clients",
    "potstill use deletion --data digits --make dm --ipc 2 --steps 20 --network convnet-w8-d1 --out made.safetensors",
    "potstill use deletion made.safetensors --data digits --delete 3,17 --verify --out fewer.safetensors",
    "potstill use edge small.safetensors --data digits --to 80% --quick --seeds 2 --updates 200 --out device",
    "potstill use control CartPole-v1 --generations 20 --students 3 --episodes 2 --out cartpole",
    "potstill use augmentation digits --augment dsa --seeds 3 --updates 150 --lr 0.1 --network mlp-w64 --out augmented",
    "potstill distill digits --targets representations:size=8,epochs=2,network=convnet-w16 --method krr-st --items 20 "
    "--iterations 20 --network convnet-w16 --out vectors.safetensors",
    "potstill use transfer vectors.safetensors --data digits --target mnist-5k --seeds 2 --steps 40 --tuning-steps 20 "
    "--test-samples 300 --out transfer",
    "potstill audit small.safetensors --data digits --parts privacy",
    "potstill audit privacy small.safetensors --data digits --students 1 --updates 50 --out small.audit.json",
    "potstill audit robustness small.safetensors --data digits --network mlp-w32 --students 2 --out small.audit.json",
    "potstill audit poisoning small.safetensors --data digits --network mlp-w32 --students 1 --inversion-steps 100 "
    "--out small.audit.json",
    "potstill diagnose small.safetensors --data digits --parts nearest",
    "potstill active-learning digits --rounds 2 --steps 20 --seeds 2 --network convnet-w16-d2",
    "potstill report comparison --out comparison.html",
    "potstill inspect small.safetensors",
    "potstill verify small.safetensors comparison",
    "potstill export small.safetensors --to png --out pictures",
    "potstill distill digits --method herding --ipc 1 --out chosen.safetensors",
    "potstill export chosen.safetensors --to indices --out indices.safetensors",
    "potstill materialize indices.safetensors --data digits --out again.safetensors",
    "potstill distill digits --method dm --parametrization generator:dim=8,epochs=2 --ipc 5 --steps 10 "
    "--network convnet-w16 --codec uint4 --out generator.safetensors",
    "potstill resample generator.safetensors --ipc 500 --out many.safetensors",
    "potstill methods dm",
    "potstill protocols",
    "potstill networks",
    "potstill data",
    "potstill kinds",
    "potstill tasks",
    "potstill parametrizations",
    "potstill augmentations",
    "potstill codecs",
    "potstill cache list",
    "potstill completion bash",
)
"""Lines in the order in which they are run: a command's example is the first line of it."""
NOT_RUN = {
    "import": "potstill import res_DM_CIFAR10_ConvNet_10ipc.pt --known cifar10 --out small.safetensors",
    "serve": "potstill serve comparison",
    "select-detection": "potstill select-detection annotations.json --n 500 --out chosen.json",
    "demo": "potstill demo",
    "use instructions": "potstill use instructions pool.jsonl --target target.jsonl --test test.jsonl --items 100 "
    "--out chosen",
    "sign": "potstill sign small.safetensors --key owner.pem",
    "mark": "potstill mark small.safetensors --key owner.pem --out marked.safetensors",
    "audit provenance": "potstill audit provenance marked.safetensors --key owner.pem",
    "audit screening": "potstill audit screening small.safetensors --data patients.csv --positive ill",
    "audit fairness": "potstill audit fairness small.safetensors --data patients.csv --attribute sex",
}
"""Examples of commands that need files from elsewhere, do not end, or take minutes, or never print the same twice."""


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, with a cache of its own and lines of 100 characters."""
    before, environment = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ |= {"POTSTILL_CACHE": str(folder / "cache"), "COLUMNS": "100"}
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ |= environment


def run_examples(
    folder: Path, lines: tuple[str, ...] = EXAMPLES, *, with_keys: bool = True
) -> dict[str, dict[str, Any]]:
    """Run commands in ``folder``; return the output of each and, from a second run, the keys of its JSON document."""
    found: dict[str, dict[str, Any]] = {}
    with _inside(folder):
        for line in lines:
            words = shlex.split(line)[1:]
            printed = _output(line, [*words, "--quiet"])
            found[line] = {"output": printed.replace(str(folder), "…"), "keys": []}
            if with_keys and ("--out" not in words or words[0] in ("distill", "evaluate", "compare", "scaling")):
                again = [*words, *(["--force"] if words[0] == "distill" else [])]
                if words[0] != "completion":
                    document = json.loads(_output(line, [*again, "--json", "--quiet"]))
                    rows = document if isinstance(document, list) else [document]
                    found[line]["keys"] = list(rows[0]) if rows else []
    return found


def _output(line: str, words: list[str]) -> str:
    """Return what a command prints on stdout.

    Raises:
        RuntimeError: it fails.
    """
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = run_command(words)
    if status != 0:
        raise RuntimeError(f"{line}: exit status {status}")
    return printed.getvalue()


def stored_examples() -> dict[str, dict[str, Any]]:
    """Return the stored output and keys of each example, by its line."""
    stored: dict[str, dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))
    return stored


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = run_examples(Path(place).resolve())
    PATH.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
