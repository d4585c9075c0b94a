"""Parts of a distilled set that its builder asks for: the metadata of assets, and pixels refined for their rounding."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from potstill.codecs.patches import Patches
from potstill.core import Codec, Encoded, Parametrization, Problem, RequiresAssets, Space
from potstill.dataset_file.shared_decoders import assets_to_json
from potstill.rng import derive_seed, generator

__all__ = ["describe_assets", "refine_patches"]


def describe_assets(part: Parametrization | Codec, problem: Problem, provided: Collection[str] = ()) -> dict[str, Any]:
    """Return the metadata of the assets that a part decodes by; empty where there are none."""
    if not isinstance(part, RequiresAssets) or not (wanted := part.assets(problem)):
        return {}
    described = assets_to_json([(asset, problem.assets[asset.name]) for asset in wanted])
    described["assets"] = [
        {**entry, "recipe": {}, "given": True} if entry["name"] in provided else entry for entry in described["assets"]
    ]
    return described


def refine_patches(codec: Patches, decoded: Tensor, space: Space, problem: Problem, seed: int) -> Encoded:
    """Return pixels refined for their rounding, in model space, by the embedding of an untrained network."""
    x = problem.train.normalization.apply(decoded) if space == "data" else decoded
    network = problem.network(derive_seed(seed, "refine")).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return codec.pack_refined(x, network.embed, generator(seed, "refine", "order"), steps=codec.refine)
