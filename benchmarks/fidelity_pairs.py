"""Compare a step of VL-Distill and of LoRS with the published programs on the same small towers, pairs and experts.

    python benchmarks/fidelity_pairs.py --vl-distill CHECKOUT --lors CHECKOUT [--out results/fidelity/pairs.json]

CHECKOUTs are clones of princetonvisualai/multimodal_dataset_distillation and silicx/LoRS_Distill. The statements of a
step are taken out of the main function of distill.py and distill_tesla_lors.py and run, with the towers of Potstill as
their networks and an expert that goes along a line. Compared are the loss and the gradients by pictures, texts, both
learning rates and the similarity. In VL-Distill's program cosines are multiplied by log(1/0.07), so ours run with that
temperature here. An error is the largest absolute difference over the largest published value. Exit status 1 if one is
above 1e-9 in float64.
"""

import argparse
import ast
import contextlib
import io
import json
import math
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from fidelity_functions import commit, error
from torch import Tensor, nn
from torch.func import functional_call

from potstill.dataset_file import write_atomic
from potstill.functional.param_groups import init_params
from potstill.functional.train import copy_parameters
from potstill.methods.engine import MatchingState
from potstill.methods.trajectory._objective import STUDENT_LR, Block, TrajectoryDistance, tower_parameters
from potstill.methods.trajectory._parts import LastStep, RelativeDistance, StartEpochs
from potstill.methods.trajectory.lors import SimilarityRows
from potstill.nn import factory
from potstill.rng import generator
from potstill.testing import toy_problem
from potstill.testing.toy import pairs_source

PAIRS, STEPS, BATCH, RANK, ALPHA = 7, 3, 4, 2, 3.0
TARGET = {torch.float64: 1e-9, torch.float32: 1e-3}


class Setting:
    """Towers, an expert's segment and pairs, the same for both sides."""

    def __init__(self, dtype: torch.dtype) -> None:
        source = pairs_source(vectors=True)
        self.problem = toy_problem(ipc=PAIRS, source=source)
        self.net = factory("towers-w4", source.input, self.problem.task.outputs)(3).to(dtype)
        rng = generator(5, "fidelity")
        self.start = copy_parameters(self.net)
        self.target = {n: p + 0.05 * torch.randn(p.shape, generator=rng).to(dtype) for n, p in self.start.items()}
        self.image = torch.randn(PAIRS, 1, 8, 8, generator=rng).to(dtype)
        self.text = torch.randn(PAIRS, 4, generator=rng).to(dtype)
        self.left = torch.randn(PAIRS, RANK, generator=rng).to(dtype)
        self.right = 0.2 * torch.randn(PAIRS, RANK, generator=rng).to(dtype)
        self.rates = torch.tensor([0.05, 0.2], dtype=dtype)
        self.towers = tower_parameters(self.net)

    def flat(self, weights: Mapping[str, Tensor], tower: int) -> Tensor:
        return torch.cat([weights[n].reshape(-1) for n in self.towers[tower]])

    def tower(self, which: int) -> Any:
        """The encoder of one view as the published programs call theirs."""

        def encode(x: Tensor, flat_param: Tensor) -> Tensor:
            names = self.towers[which]
            pieces = torch.split(flat_param, [self.start[n].numel() for n in names])
            mine = {n: p.view(self.start[n].shape) for n, p in zip(names, pieces, strict=True)}
            views = [self.image[: len(x)], self.text[: len(x)]]
            views[which] = x
            out: Tensor = functional_call(self.net, {**self.start, **mine}, ({"image": views[0], "text": views[1]},))
            return out.chunk(2, 1)[which]

        return encode


def statements(file: Path, first: str, last: str, space: dict[str, Any]) -> None:
    """Run the statements of main's loop from the one beginning with ``first`` to the one beginning with ``last``."""
    tree = ast.parse(file.read_text())
    main = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    loop = [n for n in main.body if isinstance(n, ast.For)][-1]
    said = [ast.unparse(n) for n in loop.body]
    begin = next(i for i, text in enumerate(said) if text.startswith(first))
    end = next(i for i, text in enumerate(said) if text.startswith(last))
    module = ast.parse("for once in (0,):\n    pass")  # their statements may break off a loop
    module.body[0].body = loop.body[begin : end + 1]  # type: ignore[attr-defined]
    dtype = space["image_syn"].dtype  # they name float32 where they mean their own precision
    with (
        contextlib.redirect_stdout(io.StringIO()), default_dtype(dtype),
        patch.object(Tensor, "float", lambda self: self.to(dtype)),
    ):  # fmt: skip
        exec(compile(module, str(file), "exec"), space)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def common(setting: Setting) -> dict[str, Any]:
    args = types.SimpleNamespace(
        device="cpu", distributed=False, syn_steps=STEPS, mini_batch_size=BATCH, merge_loss_branches=False,
        sim_type="lowrank",
    )  # fmt: skip
    space: dict[str, Any] = {
        "torch": torch, "F": F, "np": np, "math": math, "args": args, "it": 1,
        "wandb": types.SimpleNamespace(log=lambda *a, **k: None),
        "image_syn": setting.image.clone().requires_grad_(), "text_syn": setting.text.clone().requires_grad_(),
        "syn_lr_img": setting.rates[0].clone().requires_grad_(),
        "syn_lr_txt": setting.rates[1].clone().requires_grad_(),
    }  # fmt: skip
    for n, view in enumerate(("img", "txt")):
        space[f"{view}_student_net"] = setting.tower(n)
        space[f"{view}_student_params"] = [setting.flat(setting.start, n).requires_grad_()]
        space[f"{view}_starting_params"] = setting.flat(setting.start, n)
        space[f"{view}_target_params"] = setting.flat(setting.target, n)
    return space


def ours(setting: Setting, rows: list[Tensor], mode: str, temperature: float, similarity: bool) -> dict[str, Tensor]:
    task = replace(setting.problem.task, temperature=temperature)  # type: ignore[type-var]
    problem = replace(setting.problem, train=replace(setting.problem.train, task=task))  # type: ignore[type-var]
    learned = SimilarityRows(rank=RANK, alpha=ALPHA)
    objective = TrajectoryDistance(
        student_steps=STEPS, expert_epochs=1, start_epochs=StartEpochs(low=0, initial_high=1, high=1),
        distance=RelativeDistance(), stop_rule=LastStep(), mode=mode, per_tower=True,  # type: ignore[arg-type]
        criterion=(lambda output, y: learned.loss(task, output, y)) if similarity else None,
    )  # fmt: skip
    block = Block(net=setting.net, start=setting.start, target=setting.target, rows=rows, omega=[None] * len(rows))
    view = {"inputs/image": setting.image, "inputs/text": setting.text, STUDENT_LR: setting.rates}
    if similarity:
        view["labels"] = torch.cat([torch.ones(PAIRS, 1).to(setting.left), setting.left, setting.right], 1)
    else:
        view["labels/targets"] = torch.arange(PAIRS)
    loss, grads = objective.loss_and_grads(problem, MatchingState(params=init_params({}, {})), block, view)
    found = {"pictures": grads["inputs/image"], "texts": grads["inputs/text"], "rates": grads[STUDENT_LR]}
    return {
        "loss": torch.tensor(loss, dtype=torch.float64),
        **found,
        **({"similarity": grads["labels"]} if similarity else {}),
    }


def compare_vl_distill(checkout: Path, dtype: torch.dtype) -> dict[str, float]:
    setting = Setting(dtype)
    still = types.SimpleNamespace(zero_grad=lambda: None)
    space = common(setting) | {"logit_scale": torch.tensor(np.log(1 / 0.07), dtype=dtype)}
    space |= {f"optimizer_{name}": still for name in ("lr", "img", "txt")}
    torch.manual_seed(0)
    statements(checkout / "distill.py", "syn_images = ", "grand_loss.backward", space)
    torch.manual_seed(0)
    rows = [torch.randperm(PAIRS)[:BATCH] for _ in range(STEPS)]
    theirs = {
        "loss": space["grand_loss"].detach(), "pictures": space["image_syn"].grad, "texts": space["text_syn"].grad,
        "rates": torch.stack([space["syn_lr_img"].grad, space["syn_lr_txt"].grad]),
    }  # fmt: skip
    mine = ours(setting, rows, "replay", 1 / math.log(1 / 0.07), similarity=False)
    return {name: error(mine[name].to(dtype), value) for name, value in theirs.items()}


def compare_lors(checkout: Path, dtype: torch.dtype) -> dict[str, float]:
    setting, source = Setting(dtype), types.ModuleType("similarity_mining")
    exec((checkout / "src" / "similarity_mining.py").read_text(), source.__dict__)
    generator_of = source.LowRankSimilarityGenerator(PAIRS, RANK, ALPHA)
    generator_of.diag_weight = nn.Parameter(torch.ones(PAIRS, dtype=dtype))
    generator_of.left, generator_of.right = nn.Parameter(setting.left.clone()), nn.Parameter(setting.right.clone())
    space = common(setting) | {
        "logit_scale": torch.tensor(np.log(1 / 0.07), dtype=dtype), "sim_generator": generator_of,
        "contrastive_criterion": source.MultilabelContrastiveLoss("WBCE"),
    }  # fmt: skip
    torch.manual_seed(0)
    statements(checkout / "distill_tesla_lors.py", "syn_images = ", "syn_lr_txt.grad = ", space)
    parts = generator_of.get_indexed_parameters()
    theirs = {
        "loss": space["grand_loss"].detach(), "pictures": space["syn_images"].grad, "texts": space["syn_texts"].grad,
        "rates": torch.stack([space["syn_lr_img"].grad, space["syn_lr_txt"].grad]),
        "similarity": torch.cat([parts[0].grad[:, None], parts[1].grad, parts[2].grad], 1),
    }  # fmt: skip
    mine = ours(setting, space["indices_chunks_copy"], "tesla", 0.07, similarity=True)
    return {name: error(mine[name].to(dtype), value) for name, value in theirs.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vl-distill", type=Path, required=True)
    parser.add_argument("--lors", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results/fidelity/pairs.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "commits": {"vl-distill": commit(args.vl_distill), "lors": commit(args.lors)}, "errors": {},
    }  # fmt: skip
    failed = False
    for name, compare, checkout in (
        ("vl-distill", compare_vl_distill, args.vl_distill), ("lors", compare_lors, args.lors),
    ):  # fmt: skip
        for dtype, target in TARGET.items():
            errors = compare(checkout, dtype)
            results["errors"].setdefault(name, {})[str(dtype).removeprefix("torch.")] = errors
            failed |= max(errors.values()) > target
            print(name, dtype, {key: f"{value:.1e}" for key, value in errors.items()})
    write_atomic(args.out, (json.dumps(results, indent=1) + "\n").encode())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
