"""Codecs: encoding of tensors in few bits, and decoding of what a file holds."""

from potstill.codecs.bitstream import compress_encoded
from potstill.codecs.container import decode, encoded_bytes
from potstill.codecs.exact import Exact, Float, encode_classes, encode_ints, encode_probabilities
from potstill.codecs.names import codec_of_part, format_codec, parse_codec
from potstill.codecs.size_estimate import (
    bits_per_value,
    estimate_bytes,
    has_fixed_size,
    index_bytes,
    label_bytes,
    largest_fitting,
)
from potstill.codecs.uniform import Uniform

__all__ = [
    "Exact",
    "Float",
    "Uniform",
    "bits_per_value",
    "codec_of_part",
    "compress_encoded",
    "decode",
    "encode_classes",
    "encode_ints",
    "encode_probabilities",
    "encoded_bytes",
    "estimate_bytes",
    "format_codec",
    "has_fixed_size",
    "index_bytes",
    "label_bytes",
    "largest_fitting",
    "parse_codec",
]
