"""A distilled set of sounds as WAV files, a folder for each class."""

import json
from pathlib import Path

from potstill._util.mel import MelScale, encode_wav
from potstill.core.nested import single_tensor
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.folders import write_folder
from potstill.errors import PotstillError
from potstill.exporters.images import class_folder_names

__all__ = ["write_wav"]

_WHAT = (
    "Sounds made of log-mel spectrograms: magnitudes by non-negative least squares, phases by Griffin-Lim. None is a "
    "recording, also where the samples of the set are real ones."
)


def write_wav(distilled: Distilled, path: Path) -> None:
    """Write ``CLASS/0000.wav`` (one channel, 16 bits) for each sound, and ``labels.json`` with classes, files, labels
    and what the sounds are.

    Raises:
        PotstillError: the inputs are no sounds, or the path is taken.
    """
    if distilled.input.kind != "sound":
        raise PotstillError(
            f"wav needs sounds, but this set holds {distilled.input.kind or 'several'} data; choose another form, such "
            "as npz"
        )
    scale = MelScale.from_units(distilled.input.units)
    x = single_tensor(distilled.inputs, "an export to wav").numpy()
    folders = class_folder_names(distilled.classes)

    def fill(folder: Path) -> None:
        counts, files = [0] * len(folders), []
        for values, c in zip(x, distilled.hard_labels.tolist(), strict=True):
            (folder / folders[c]).mkdir(exist_ok=True)
            files.append(f"{folders[c]}/{counts[c]:04}.wav")
            (folder / files[-1]).write_bytes(encode_wav(scale.to_wave(values), scale.rate))
            counts[c] += 1
        content = {
            "what": _WHAT, "rate": scale.rate, "classes": list(distilled.classes), "folders": folders, "files": files,
            "labels": distilled.labels.tolist(), "card": distilled.to_dict(),
        }  # fmt: skip
        if distilled.weights is not None:
            content["weights"] = distilled.weights.tolist()
        (folder / "labels.json").write_text(json.dumps(content), encoding="ascii")

    write_folder(path, fill)
