"""``potstill select-detection``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, ForceOption, Parsed, optional
from potstill.cli.text import json_document, plural

__all__ = ["SelectDetection"]


@dataclass(frozen=True, kw_only=True)
class SelectDetection(ForceOption, Command):
    """Select images of a detection data set whose boxes stand for those of the others, class by class (CSOD).

    ANNOTATIONS is COCO's .json file or a folder of VOC's .xml files; the selection is written as COCO's JSON.
    """

    annotations: Annotated[Positional[Path], arg(metavar="ANNOTATIONS")]
    """The boxes."""
    n: Annotated[int, arg(metavar="N")]
    """Images to select."""
    out: Annotated[Path, arg(metavar="SUBSET.json")]
    """The file to write: annotations of the selected images, their indices, and the hash of all annotations."""
    images: Annotated[Path | None, optional("DIR")] = None
    """The folder of the images (else the annotations' own, or VOC's JPEGImages)."""
    redundancy: Annotated[float, arg(metavar="L")] = 1.0
    """λ: penalty of an image that is like those already selected."""
    crop: Annotated[int, arg(metavar="PX")] = 8
    """Side in pixels to which the crops of boxes are resized to be compared."""

    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": (".json",)}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.active import select_images
        from potstill.data.detection import load_detection
        from potstill.dataset_file import write_atomic

        check_output(self.out, force=self.force, found=_other_subset)
        data = load_detection(self.annotations, self.images)
        for note in data.notes:
            progress.note(note)
        index = select_images(
            data,
            self.n,
            redundancy=self.redundancy,
            size=self.crop,
            progress=lambda done, total: progress.show("boxes", done / total, f"{done:,} of {total:,} images"),
        ).tolist()
        config = {"redundancy": self.redundancy, "crop": self.crop}
        subset = data.subset(index, {"method": "csod", "config": config, "command": parsed.line})
        write_atomic(self.out, (json_document(subset) + "\n").encode())
        boxes = sum(len(data.images[i].labels) for i in index)
        value = {"path": str(self.out), "images": len(index), "boxes": boxes, **subset["potstill"]}
        return Answer(value, f"{self.out}: {plural(len(index), 'image')} of {len(data):,}, with {boxes:,} boxes")


def _other_subset(path: Path) -> str:
    from potstill._util.outputs import read_json_object

    metadata = read_json_object(path).get("potstill")
    is_ours = isinstance(metadata, dict) and metadata.get("method") == "csod"
    return "" if is_ours else "is there already, and is no subset that select-detection wrote"
