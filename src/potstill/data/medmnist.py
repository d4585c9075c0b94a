"""MedMNIST's files: small medical pictures as ``NAME.npz``, with the class names that MedMNIST publishes (v3.0.2)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from potstill.errors import PotstillError

__all__ = ["CLASSES", "is_medmnist", "rename_medmnist"]

_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
    "lung-right", "pancreas", "spleen",
)  # fmt: skip
CLASSES: Mapping[str, tuple[str, ...]] = {
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
        "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments", "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS, "organcmnist": _ORGANS, "organsmnist": _ORGANS,
}  # fmt: skip
"""Class names by the name of the file."""


def is_medmnist(arrays: Mapping[str, Any]) -> bool:
    """Return True for arrays with MedMNIST's names."""
    return {"train_images", "train_labels"} <= arrays.keys()


def rename_medmnist(arrays: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the arrays of a MedMNIST file by the usual names, and notes.

    Args:
        arrays: ``train_images`` (n, h, w) or (n, h, w, 3), ``train_labels`` (n, 1), and those of ``val`` and ``test``.
        name: name of the file without its ending, such as ``pathmnist`` or ``pathmnist_64``.

    Raises:
        PotstillError: a picture has several labels, or is a volume.
    """
    labels, images = np.asarray(arrays["train_labels"]), np.asarray(arrays["train_images"])
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise PotstillError(
            f"{name}: its pictures have {labels.shape[1]} labels each, and one is needed; write an .npz with one column"
        )
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        raise PotstillError(f"{name}: holds volumes of shape {images.shape[1:]}; give pictures, such as their slices")
    renamed: dict[str, Any] = {"x_train": images, "y_train": labels.reshape(-1)}
    if "test_images" in arrays and "test_labels" in arrays:
        renamed |= {"x_test": arrays["test_images"], "y_test": np.asarray(arrays["test_labels"]).reshape(-1)}
    class_names = CLASSES.get(name.partition("_")[0].lower())
    if class_names is not None and int(labels.max(initial=0)) < len(class_names):
        renamed["classes"] = np.array(class_names)
    notes = []
    if "val_images" in arrays:
        notes.append(
            f"{name}: its {len(arrays['val_images']):,} validation samples are not read; choices are made on training "
            "samples"
        )
    standard_keys = {f"{part}_{what}" for part in ("train", "val", "test") for what in ("images", "labels")}
    return {**{key: value for key, value in arrays.items() if key not in standard_keys}, **renamed}, notes
