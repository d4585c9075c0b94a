"""Entropy coding: packed codes become arithmetic-coded streams, without loss, as the last step of every codec.

A value is coded as a few binary decisions. Each of some ten contexts (neighbours, the mirrored pixel, the class, the
same place of earlier items) has counted how such decisions went and gives a probability and, by how often and how
surely, a second one. A mixer adds their logits ln(p / (1 − p)). Its weights follow the gradient of the code length,
several sets of them side by side; a last table corrects what comes out. A range coder of 32 bits writes the
decision. This is the family of PAQ (M. Mahoney, "Adaptive weighing of context models for lossless data compression",
2005; "Data compression explained"), written from the formulas. All arithmetic is of whole numbers, so that the
bytes are the same on every processor.

The kernel is native/coder.c; without a C compiler `potstill.codecs.bitstream.twin` codes the same bytes, some hundred
times slower. Tensors of over 2^23 decisions are coded by one context each, tensors of over 2^24 codes not at all.
"""

from potstill.codecs.bitstream.encoded import compress_encoded, expand_encoded, is_compressed
from potstill.codecs.bitstream.layouts import LAYOUTS, Layout
from potstill.codecs.bitstream.stream import decode_codes, encode_codes

__all__ = [
    "LAYOUTS", "Layout", "compress_encoded", "decode_codes", "encode_codes", "expand_encoded", "is_compressed",
]  # fmt: skip
