"""Loader of sounds with a class each: folders of sound files, read as log-mel spectrograms (1, mels, frames)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from potstill._util.mel import MelScale
from potstill.core import InputSpec, Splits, Task, registry
from potstill.data.damaged_files import DamagedFiles
from potstill.data.folder import list_folder, relative_paths, starts_with_suffix
from potstill.data.limits import require_memory
from potstill.data.read_options import ReadOptions
from potstill.data.sound_files import SOUND_SUFFIXES, BadSoundError, SoundHeader, read_header, read_sound, resample
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.errors import PotstillError, unknown_name
from potstill.functional.mel import log_mel, mel_power

__all__ = ["read_sounds"]

_REFUSED = ("label", "size", "stream", "text", "encode", "series", "missing", "horizontal_flip")
_RATES = (8_000, 16_000)
"""Range of the rate where none is chosen."""
_MULTIPLE, _MOST_SECONDS, _SHARE = 8, 2.0, 0.9
"""Frames are a multiple of 8, which networks halve three times; where no length is chosen it holds nine tenths of the
sounds whole, up to two seconds."""
_SILENT = 1e-4
"""Largest sample of a sound that counts as silent: 80 dB below full scale."""


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A representation of sounds.

    Raises:
        PotstillError: a setting out of its range.
    """

    rate: int = 0
    """Samples in a second; 0: the lowest rate of the files, at least 8,000 and at most 16,000."""
    mels: int = 32
    seconds: float = 0.0
    """Length of every sound; 0: as long as nine tenths of them, at most 2 s."""
    level: str = "peak"
    """``peak``: each sound at its own full scale; ``file``: as loud as in the file."""
    trim: float = 40.0
    """Decibels below its loudest moment from which on the ends of a sound are silence, which is cut; 0: nothing is."""

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= 60:
            raise PotstillError(f"the length of sounds is from 0 to 60 s, but seconds is {self.seconds:g}; change it")
        if not 0 <= self.trim <= 100:
            raise PotstillError(f"the silence of ends is from 0 to 100 dB, but trim is {self.trim:g}; change it")
        if self.level not in ("peak", "file"):
            raise unknown_name("level of sounds", self.level, ("peak", "file"))
        if self.rate:
            MelScale(rate=self.rate, mels=self.mels)


def _parse_form(spelled: str | None) -> _Form:
    """Return the settings of ``log-mel:rate=16000,seconds=1``."""
    name, _, settings = (spelled or "log-mel").partition(":")
    if name != "log-mel":
        raise unknown_name("representation of sounds", name, ("log-mel",))
    form: _Form = registry.with_settings("representation log-mel", _Form, settings)
    return form


def read_sounds(task: Task, data: object, options: ReadOptions) -> Splits:
    """Read a folder of sound files with a folder for each class, as log-mel spectrograms of one length.

    Args:
        task: classification.
        data: the folder: ``CLASS/**``, or ``train/CLASS/**`` with ``test/CLASS/**``.
        options: ``representation`` says rate, bands and length; ``skip_bad`` leaves damaged files out; ``group`` may
            tell speakers by the names of files.

    Raises:
        PotstillError: no such folder, a damaged file, or options of other data.
    """
    for option in _REFUSED:
        if getattr(options, option) not in (None, False):
            raise PotstillError(f"sounds are read without `{option}=`; leave it out")
    form = _parse_form(options.representation)
    if not isinstance(data, str | Path):
        raise PotstillError(
            f"a {type(data).__name__} was given; sounds are read from a folder with a folder for each class"
        )
    root = Path(data).expanduser()
    if not root.is_dir():
        raise PotstillError(f"{data}: no such folder; sounds are read from a folder with a folder for each class")
    listed = list_folder(root, SOUND_SUFFIXES, "sounds")
    paths = [part.folder / name for part in listed.files for name in part.names]
    bad = DamagedFiles("sounds", skip_bad=options.skip_bad)
    headers = _read_headers(paths, bad)
    scale = MelScale(rate=form.rate or _common_rate(headers.values()), mels=form.mels)
    spectra: dict[int, Float[Tensor, "mels t"]] = {}
    reader = _Reader(form=form, scale=scale)
    for place, path in enumerate(paths):
        if path in headers and (made := reader.spectrum(path, bad)) is not None:
            spectra[place] = made
    if not spectra:
        raise bad.none_left(listed.name, len(paths))
    training = [part.training for part in listed.files for _ in part.names]
    frames = _common_frames(form, scale, [s.shape[1] for p, s in spectra.items() if training[p]] or [_MULTIPLE])
    require_memory(2 * len(spectra) * scale.mels * frames, listed.name, "give a smaller length")
    x = torch.stack([_fitted(s, frames) for s in spectra.values()])[:, None]
    files = list(relative_paths(root, listed.files))
    labels = torch.tensor([part.label for part in listed.files for _ in part.names])
    places = torch.tensor(list(spectra))
    part = RawPart(inputs=x, labels=labels[places], names=tuple(files[p] for p in places.tolist()), places=places)
    is_train = torch.tensor(training)[places]
    notes = [
        *listed.notes, *_describe(listed.name, [headers[paths[p]] for p in spectra], scale),
        *reader.notes(listed.name, [s.shape[1] for s in spectra.values()], frames),
        *bad.notes(listed.name),
    ]  # fmt: skip
    if not listed.split and options.group is None and options.test_fraction:
        notes.append(
            f"{listed.name}: where sounds of one speaker or recording are in training and test, scores are too high; "
            '`group="REGEX"` of file names keeps them together'
        )
    raw = RawSplits(
        name=listed.name, train=part.select(torch.where(is_train)[0]),
        test=part.select(torch.where(~is_train)[0]) if listed.split else None,
        spec=InputSpec(kind="sound", shape=(1, scale.mels, frames), units=scale.units, horizontal_flip=False),
        classes=listed.classes, normalization=options.normalization, notes=tuple(notes),
    )  # fmt: skip
    return assemble(raw, options)


def _accepts(data: object) -> bool:
    """Return True for folders whose first file in a class folder is a sound."""
    return starts_with_suffix(data, SOUND_SUFFIXES)


read_sounds.accepts = _accepts  # type: ignore[attr-defined]


def _read_headers(paths: Sequence[Path], bad: DamagedFiles) -> dict[Path, SoundHeader]:
    headers: dict[Path, SoundHeader] = {}
    for path in paths:
        try:
            headers[path] = read_header(path)
        except BadSoundError as error:
            bad.add(path, error)
    return headers


def _common_rate(headers: Iterable[SoundHeader]) -> int:
    rates = [about.rate for about in headers]
    low, high = _RATES
    return max(low, min(high, *rates)) if rates else low


def _common_frames(form: _Form, scale: MelScale, lengths: list[int]) -> int:
    """Return the frames of every sound: those of the seconds that were chosen, or of most sounds."""
    per_second = scale.rate / scale.hop
    wanted = form.seconds * per_second
    if not form.seconds:
        wanted = min(float(np.quantile(lengths, _SHARE, method="higher")), _MOST_SECONDS * per_second)
    return _MULTIPLE * max(1, round(wanted / _MULTIPLE) if form.seconds else -(-int(wanted) // _MULTIPLE))


def _fitted(spectrum: Tensor, frames: int) -> Tensor:
    """Return a spectrogram (mels, frames) in 8 bits, cut at its end or filled with silence."""
    out = torch.zeros(spectrum.shape[0], frames, dtype=torch.uint8)
    most = min(frames, spectrum.shape[1])
    out[:, :most] = (spectrum[:, :most] * 255).round().to(torch.uint8)
    return out


class _Reader:
    """Makes spectrograms of files, and counts what was done to them."""

    def __init__(self, *, form: _Form, scale: MelScale) -> None:
        self._form, self._scale = form, scale
        self._silent: list[Path] = []
        self._short = self._trimmed = 0

    def spectrum(self, path: Path, bad: DamagedFiles) -> Float[Tensor, "mels t"] | None:
        """Return the spectrogram of a file, without the silence of its ends; ``None``: it is damaged and left out."""
        try:
            sound, rate = read_sound(path)
        except BadSoundError as error:
            bad.add(path, error)
            return None
        sound = resample(sound, rate, self._scale.rate)
        most = float(np.abs(sound).max())
        self._short += len(sound) < self._scale.window
        if most < _SILENT:
            self._silent.append(path)
        elif self._form.level == "peak":
            sound = sound / most
        power = mel_power(torch.from_numpy(np.ascontiguousarray(sound, dtype=np.float32)), self._scale)
        if self._form.trim and most >= _SILENT:
            total = power.sum(0)
            loud = torch.where(total >= total.max() * 10 ** (-self._form.trim / 10))[0]
            self._trimmed += len(total) > int(loud[-1] - loud[0]) + 1
            power = power[:, int(loud[0]) : int(loud[-1]) + 1]
        return log_mel(power)

    def notes(self, name: str, lengths: Sequence[int], frames: int) -> list[str]:
        """Return notes on lengths, silence and loudness."""
        longer, shorter = sum(n > frames for n in lengths), sum(n < frames for n in lengths)
        scale, form = self._scale, self._form
        chosen = f"{scale.seconds(frames):.2f} s"
        notes = [
            f"{name}: each sound is a spectrogram of {scale.mels} bands × {frames} frames ({chosen}), in steps of "
            f"0.3 dB; {longer:,} longer ones are cut at the end, {shorter:,} shorter ones filled with silence; "
            '`representation="log-mel:seconds=1"` chooses another length'
        ]
        if self._trimmed:
            notes.append(
                f"{name}: the ends of {self._trimmed:,} sounds, {form.trim:g} dB below their loudest moment, are cut"
            )
        if form.level == "peak":
            notes.append(
                f'{name}: the peak of each sound is at full scale; `representation="log-mel:level=file"` leaves it'
            )
        if self._silent:
            notes.append(f"{name}: {len(self._silent):,} sounds are silent, the first is {self._silent[0]}")
        if self._short:
            window = round(1000 * scale.window / scale.rate)
            notes.append(f"{name}: {self._short:,} sounds are shorter than one window of {window} ms")
        return notes


def _describe(name: str, headers: Sequence[SoundHeader], scale: MelScale) -> list[str]:
    """Return notes on rates and channels."""
    notes = []
    rates = Counter(about.rate for about in headers)
    if set(rates) != {scale.rate}:
        which = ", ".join(f"{n:,} of {rate:,} Hz" for rate, n in rates.most_common(3))
        which += ", …" if len(rates) > 3 else ""
        notes.append(f"{name}: sounds are resampled to {scale.rate:,} Hz ({which})")
    if several := sum(about.channels > 1 for about in headers):
        notes.append(f"{name}: the channels of {several:,} sounds are mixed to one")
    return notes
