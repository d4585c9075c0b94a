"""One file of a published FKD folder, read without running what is in it.

``FOLDER/epoch_E/batch_B.tar``, as SRe2L writes them (relabel/generate_soft_label.py) and CDA, DWA, CV-DD and others
after it: ``torch.save`` of a list ``[coords, flip, perm, lam, bbox, logits]``; G-VBSM and EDC append ``index`` and
perhaps the order of shuffled patches. For a batch of m pictures: ``coords`` float (m, 4), a crop (top, left, height,
width) as parts of the picture's sides; ``flip`` bool (m,); ``perm`` int64 (m,), each one's partner in the batch;
``lam`` a number; ``bbox`` four numbers (first row, first column, end row, end column of the view); ``logits`` (m, k) of
the mixed views.

The files are pickles of tensors and of NumPy's numbers. They are read by ``torch.load(weights_only=True)``, with a
function of ours in the place of NumPy's: any other object is refused before it is made. Archives that would unpack to
more than they weigh are refused too.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.dataset_file.safe_unpickle import SAFE_GLOBALS
from potstill.errors import PotstillError

__all__ = ["FKDBatch", "read_batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FKDBatch:
    """Contents of one checked file.

    Attributes:
        box: (m, 4): top, left, height, width, in the picture's pixels.
        flip: (m,).
        perm: (m,), partners in the batch; ``None`` without a mix.
        lam: what is left of its own.
        bbox: first row, first column, end row, end column; ``None`` for MixUp.
        logits: float32 (m, k).
        index: (m,), which items these are; ``None`` where the sampler says so.
    """

    box: NDArray[np.int64]
    flip: NDArray[np.bool_]
    perm: NDArray[np.int64] | None
    lam: float
    bbox: tuple[int, ...] | None
    logits: Tensor
    index: NDArray[np.int64] | None


def read_batch(path: Path, picture: tuple[int, int], classes: int) -> FKDBatch:
    """Read and check one file.

    Args:
        path: of the file.
        picture: (height, width) of the pictures that were cut.
        classes: k.

    Raises:
        PotstillError: it is missing, holds other objects, is of another form or says what cannot be: one line.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise PotstillError(f"{path}: would unpack to more than it weighs; get the file again")
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            said = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise PotstillError(f"{path}: no such file; the folder is not whole, get it again") from error
    except PotstillError:
        raise
    except Exception as error:  # whatever a damaged or hostile pickle breaks in
        why = next((line for line in str(error).splitlines() if "GLOBAL" in line), str(error).split("\n")[0])
        raise PotstillError(
            f"{path}: not a batch of FKD labels ({why.strip()[:150]}); nothing of it was run"
        ) from error
    wrong = PotstillError(
        f"{path}: not a batch of FKD labels of {classes} classes: [coords, flip, perm, lam, bbox, logits(, index)] are "
        "required; check classes, or get the file again"
    )
    if not isinstance(said, list | tuple) or len(said) not in (6, 7, 8):
        raise wrong
    # A tensor of a few bytes may claim any shape by strides of 0.
    if sum(t.numel() * t.element_size() for t in said if isinstance(t, Tensor)) > path.stat().st_size:
        raise wrong
    coords, flip, perm, lam, bbox, logits = said[:6]
    index = said[6] if len(said) > 6 else None
    m = len(logits) if _is(logits, (-1, classes)) and logits.is_floating_point() else -1
    whole = [t for t in (perm, index) if t is not None]
    good = m > 0 and _is(coords, (m, 4)) and coords.is_floating_point() and _is(flip, (m,))
    good = good and all(_is(t, (m,)) and t.dtype == torch.int64 for t in whole)
    good = good and (lam is None or isinstance(lam, int | float))
    four = isinstance(bbox, list | tuple) and len(bbox) == 4 and all(isinstance(side, int) for side in bbox)
    if not good or (bbox is not None and not four):
        raise wrong
    if len(said) == 8 and isinstance(said[7], Tensor) and bool(said[7].any()):
        raise PotstillError(f"{path}: labels of shuffled patches are not read; label these pictures again")
    if perm is not None and not 0 <= int(perm.min()) <= int(perm.max()) < m:
        raise wrong
    if perm is not None and (lam is None or not 0 <= float(lam) <= 1):
        raise wrong
    sides = torch.tensor([picture[0], picture[1], picture[0], picture[1]], dtype=torch.float64)
    exact = coords.double() * sides
    if not bool(((exact - exact.round()).abs() < 1e-2).all()):
        raise PotstillError(f"{path}: its crops are not whole pixels of pictures of {picture}; give their true size")
    box = exact.round().long()
    end = box[:, :2] + box[:, 2:]
    if bool((box < 0).any() | (box[:, 2:] < 1).any() | (end[:, 0] > picture[0]).any() | (end[:, 1] > picture[1]).any()):
        raise PotstillError(f"{path}: a crop lies outside pictures of {picture}; give their true size")
    return FKDBatch(
        box=box.numpy(), flip=flip.bool().numpy(), perm=None if perm is None else perm.numpy(),
        lam=1.0 if lam is None else float(lam),
        bbox=None if bbox is None else tuple(bbox), logits=logits.float(),
        index=None if index is None else index.numpy(),
    )  # fmt: skip


def _is(value: Any, shape: tuple[int, ...]) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.ndim == len(shape)
        and all(wanted in (-1, side) for side, wanted in zip(value.shape, shape, strict=True))
    )
