"""The arithmetic coder: bytes beside PNG, WebP and LZMA, ideal code length, speed, equal bytes, damaged streams.

    OMP_NUM_THREADS=1 python benchmarks/coder.py [--draws 3] [--damaged 20000]
    python benchmarks/coder.py --only speed    # measures one part again
    python benchmarks/coder.py --show

Pictures are ten of each class, sorted by class: of a grey set random ones, of `photos` random crops of 32 × 32 of
scikit-learn's two photographs. Each is rounded to so many bits. PNG and WebP hold all as one mosaic, PNG with as many
bits a pixel; LZMA takes the smaller of packed codes and of a byte a code. Results go to results/coder.json.
"""

import argparse
import hashlib
import io
import json
import lzma
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from PIL import Image
from sklearn.datasets import load_sample_images

import potstill
from potstill.codecs.bitstream import LAYOUTS, decode_codes, encode_codes, stream
from potstill.errors import PotstillError
from potstill.functional.packing import pack_bits
from potstill.native import has_kernel
from potstill.rng import generator

PER_CLASS, CLASSES, CROPS, SIDE = 10, 10, 50, 32
PICTURE = LAYOUTS["picture"]
WAYS = {
    "vectors of this processor": {}, "vectors of 256 bits": {"ATEN_CPU_CAPABILITY": "avx2"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default"}, "generic build": {"CC": "generic"},
    "plain Python": {"POTSTILL_NATIVE": "0"},
}  # fmt: skip
GENERIC = """#!/bin/sh
[ "$1" = --version ] && exec gcc --version
exec gcc "$@" -O1 -march=x86-64
"""
"""A compiler of code for any processor of this kind, with hardly any optimization."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--damaged", type=int, default=20000)
    parser.add_argument("--out", type=Path, default=Path("results/coder.json"))
    parser.add_argument("--only", choices=["sizes", "ideal", "speed", "hashes", "damaged"])
    parser.add_argument("--show", action="store_true", help="print what is there")
    parser.add_argument("--hash", action="store_true", help="print the hash of some streams, and no more")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.hash:
        print("kernel" if has_kernel("coder") else "Python", hashlib.sha256(b"".join(some_streams())).hexdigest())
        return
    if not args.show:
        parts: dict[str, Callable[[], Any]] = {
            "sizes": lambda: sizes(args.draws), "ideal": ideal, "speed": speed, "hashes": hashes,
            "damaged": lambda: damaged(args.damaged),
        }  # fmt: skip
        found = json.loads(args.out.read_text()) if args.only else {"per_class": PER_CLASS}
        for name in [args.only] if args.only else parts:
            found[name] = parts[name]()
        found["machine"] = machine()
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    show(json.loads(args.out.read_text()))


def grey(name: str, rng: torch.Generator, per_class: int = PER_CLASS) -> np.ndarray:
    """Random pictures (n, 1, h, w) from 0 to 1, sorted by class."""
    train = potstill.load_data(name).train
    rows = [
        members[torch.randperm(len(members), generator=rng)[:per_class]]
        for members in ((train.labels == c).nonzero().flatten() for c in range(CLASSES))
    ]
    x = train.normalization.invert(train.fetch(torch.cat(rows)).x)
    return np.asarray(x.clamp(0, 1).numpy())


def photos(rng: torch.Generator) -> np.ndarray:
    """Random crops (100, 3, 32, 32) of two photographs, which are the classes."""
    crops = []
    for photo in load_sample_images().images:
        for _ in range(CROPS):
            y, x = (int(torch.randint(size - SIDE, (1,), generator=rng)) for size in photo.shape[:2])
            crops.append(photo[y : y + SIDE, x : x + SIDE].transpose(2, 0, 1) / 255)
    return np.stack(crops)


DATA: dict[str, tuple[Callable[[torch.Generator], np.ndarray], tuple[int, ...], int]] = {
    "fashion-mnist": (lambda rng: grey("fashion-mnist", rng), (1, 2, 4, 8), PER_CLASS),
    "mnist-5k": (lambda rng: grey("mnist-5k", rng), (1, 2, 4, 8), PER_CLASS),
    "photos": (photos, (4, 8), CROPS),
}


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(np.rint(x * ((1 << bits) - 1))).astype(np.int64)


def sizes(draws: int) -> list[dict[str, Any]]:
    """Bytes of a picture by data, bits and format, of each draw."""
    rows = []
    for name, (draw, widths, of_class) in DATA.items():
        for bits in widths:
            found: dict[str, list[float]] = {}
            for n in range(draws):
                codes = rounded(draw(generator(n, "coder")), bits)
                for kind, size in each_format(codes, bits, [of_class] * (len(codes) // of_class)).items():
                    found.setdefault(kind, []).append(size / len(codes))
            rows.append({"data": name, "bits": bits, "bytes": found})
    return rows


def each_format(codes: np.ndarray, bits: int, groups: list[int]) -> dict[str, int]:
    packed = pack_bits(torch.from_numpy(codes.reshape(-1)), bits).numpy().tobytes()
    coded = encode_codes(codes, bits, PICTURE, groups)
    assert coded is not None
    assert np.array_equal(decode_codes(coded, codes.shape, bits, PICTURE), codes)
    pictures = codes.reshape(10, 10, *codes.shape[1:]).transpose(2, 0, 3, 1, 4)
    mosaic = pictures.reshape(codes.shape[1], 10 * codes.shape[2], 10 * codes.shape[3]).astype(np.uint8)
    spread = mosaic * (255 // ((1 << bits) - 1))
    webp = spread if len(spread) == 3 else np.repeat(spread, 3, 0)
    best = {"format": lzma.FORMAT_RAW, "filters": [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]}
    return {
        "packed": len(packed), "coder": len(coded), "png": png(mosaic, spread, bits),
        "webp": saved(Image.fromarray(webp.transpose(1, 2, 0)), "WEBP", lossless=True, quality=100, method=6),
        "lzma": min(len(lzma.compress(data, **best)) for data in (packed, codes.astype(np.uint8).tobytes())),
    }  # fmt: skip


def png(mosaic: np.ndarray, spread: np.ndarray, bits: int) -> int:
    """Bytes of a PNG file: of grey pictures of few bits the smaller of a palette of as many bits and of 8 bits."""
    if len(mosaic) == 3:
        return saved(Image.fromarray(spread.transpose(1, 2, 0)), "PNG", optimize=True)
    wide = saved(Image.fromarray(spread[0]), "PNG", optimize=True)
    if bits == 8:
        return wide
    indexed = Image.fromarray(mosaic[0]).convert("L")
    indexed.putpalette([level for k in range(1 << bits) for level in [k * 255 // ((1 << bits) - 1)] * 3])
    return min(wide, saved(indexed, "PNG", optimize=False, bits=bits))


def saved(image: Image.Image, kind: str, **options: Any) -> int:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return len(file.getvalue())


def ideal() -> list[dict[str, Any]]:
    """Length of large streams over the sum of −log2 p of what their model said of each decision."""
    rows, run = [], stream.run
    for name, per_class, bits in (("mixed", 40, 4), ("mixed", 40, 8), ("one context", 300, 4)):
        codes = rounded(grey("fashion-mnist", generator(0, "ideal"), per_class), bits)
        counts = torch.zeros(65537, dtype=torch.int64)
        most, stream.MOST_MIXED = stream.MOST_MIXED, stream.MOST_MIXED if name == "mixed" else 0  # type: ignore[misc]
        calls: list[str] = []
        stream.run = partial(counting, run, counts, calls)
        try:
            coded = encode_codes(codes, bits, PICTURE, [per_class] * CLASSES)
        finally:
            stream.run, stream.MOST_MIXED = run, most  # type: ignore[misc]
        assert coded is not None
        assert len(calls) == 1  # else the counts are of another way
        p = torch.arange(1, 65537).double() / 65536
        bound = float((counts[1:].double() * -p.log2()).sum()) / 8
        rows.append({"model": name, "bits": bits, "bytes": len(coded), "ideal": bound, "ratio": len(coded) / bound})
    return rows


def counting(run: Callable[..., int | None], counts: torch.Tensor, calls: list[str], *arguments: Any) -> int | None:
    """Call a kernel's function so that it counts the probabilities of what was coded."""
    calls.append(arguments[1])
    return run(*arguments[:-1], counts)


def speed() -> list[dict[str, Any]]:
    """Decoded megabytes of codes, as they are packed, and of pixels in a second of a core: the median of five."""
    rows = []
    for name, per_class, bits in (("mixed", 40, 4), ("mixed", 40, 8), ("one context", 300, 4), ("one context", 300, 8)):
        codes = rounded(grey("fashion-mnist", generator(0, "speed"), per_class), bits)
        most, stream.MOST_MIXED = stream.MOST_MIXED, stream.MOST_MIXED if name == "mixed" else 0  # type: ignore[misc]
        coded = encode_codes(codes, bits, PICTURE, [per_class] * CLASSES)
        stream.MOST_MIXED = most  # type: ignore[misc]
        assert coded is not None
        seconds = []
        for _ in range(5):
            begun = time.process_time()
            decode_codes(coded, codes.shape, bits, PICTURE)
            seconds.append(time.process_time() - begun)
        each = codes.size / 1e6 / statistics.median(seconds)
        spread = [codes.size / 1e6 / s for s in (max(seconds), min(seconds))]
        rows.append({
            "model": name, "bits": bits, "codes": codes.size, "packed_mb_s": each * bits / 8, "codes_m_s": each,
            "codes_m_s_range": spread,
        })  # fmt: skip
    return rows


def some_streams() -> list[bytes]:
    """A stream of each layout and way, small enough for plain Python."""
    rng = generator(0, "streams")
    streams = []
    for bits in (1, 2, 4, 8):
        x = torch.randn(4, 3, 12, 12, generator=rng).cumsum(-1).sigmoid().numpy()
        for layout in LAYOUTS.values():
            codes = rounded(x, bits)
            codes = np.sort(codes, axis=-1) if layout.name == "sorted" else codes
            streams.append(encode_codes(codes, bits, layout, [2, 2]))
    smooth = rounded(torch.randn(3, 1, 12, 12, generator=rng).cumsum(-1).sigmoid().numpy(), 4)
    most, stream.MOST_MIXED = stream.MOST_MIXED, 0  # type: ignore[misc]
    streams.append(encode_codes(smooth, 4, PICTURE))
    stream.MOST_MIXED = most  # type: ignore[misc]
    assert all(coded is not None for coded in streams)
    return [coded for coded in streams if coded is not None]


def hashes() -> dict[str, str]:
    """Hash of the streams that each way of running makes, each in a process and with a cache of its own."""
    found = {}
    for name, changed in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            settings = {**os.environ, **changed, "XDG_CACHE_HOME": folder, "POTSTILL_CACHE": folder}
            if "CC" in changed:
                (wrapper := Path(folder) / "cc").write_text(GENERIC)
                wrapper.chmod(0o755)
                settings["CC"] = str(wrapper)
            done = subprocess.run(
                [sys.executable, __file__, "--hash"], env=settings, check=True, capture_output=True, text=True
            )
            how, found[name] = done.stdout.split()
            assert (how == "Python") == (name == "plain Python")
    return found


def damaged(tries: int) -> dict[str, int]:
    """Outcomes of reading streams with a changed, missing or added byte; any error but `PotstillError` ends it."""
    codes = rounded(grey("mnist-5k", generator(0, "damaged"), 1), 2)
    coded, rng = encode_codes(codes, 2, PICTURE, [1] * CLASSES), generator(1, "damaged")
    assert coded is not None
    refused = 0
    for n in range(tries):
        at, byte = int(torch.randint(len(coded), (1,), generator=rng)), int(torch.randint(1, 256, (1,), generator=rng))
        changed = coded[at] ^ byte
        bad = (coded[:at] + bytes([changed]) + coded[at + 1 :], coded[:at], coded + bytes([byte]))[n % 3]
        try:
            decode_codes(bad, codes.shape, 2, PICTURE)
        except PotstillError:
            refused += 1
    return {"tried": tries, "refused": refused, "read": tries - refused}


def show(found: dict[str, Any]) -> None:
    kinds = ("packed", "coder", "png", "webp", "lzma")
    print(f"{'bytes of a picture':<20}{'bits':>5}" + "".join(f"{kind:>16}" for kind in kinds))
    for row in found["sizes"]:
        cells = []
        for kind in kinds:
            each = row["bytes"][kind]
            cells.append(f"{statistics.mean(each):.1f} ± {statistics.stdev(each) if len(each) > 1 else 0:.1f}")
        print(f"{row['data']:<20}{row['bits']:>5}" + "".join(f"{cell:>16}" for cell in cells))
    for row in found["ideal"]:
        print(f"{row['model']}, {row['bits']} bits: {row['bytes']:,} bytes, {row['ratio']:.5f} of the ideal length")
    for row in found["speed"]:
        print(
            f"{row['model']}, {row['bits']} bits: decodes {row['packed_mb_s']:.2f} MB/s packed, "
            f"{row['codes_m_s']:.2f} million codes/s"
        )
    for name, digest in found["hashes"].items():
        print(f"{name:<28}{digest[:16]}")
    print(
        "damaged streams: {tried:,} tried, {refused:,} refused, {read:,} read as other codes".format(**found["damaged"])
    )


if __name__ == "__main__":
    main()
