"""The kind ``spectra``: one curve, (1, bins), and all that Potstill asks of it."""

from typing import Any

from potstill.core import InputSpec
from potstill.kinds import Html, Kind, tag


def draw_curve(x: Any, alt: str) -> Html:
    """Return one spectrum, a NumPy array (1, bins), as an inline SVG."""
    values = x.reshape(-1)
    low, span = float(values.min()), float(values.max() - values.min()) or 1.0
    points = " ".join(f"{i * 64 / len(values):.1f},{38 - 36 * (v - low) / span:.1f}" for i, v in enumerate(values))
    line = tag("polyline", points=points, fill="none", stroke="currentColor")
    return tag("svg", line, viewBox="0 0 64 40", width=64, height=40, role="img", aria_label=alt)


def describe_size(spec: InputSpec, noun: str) -> str:
    """Return ``spectra of 48 bins``."""
    return f"{noun} of {spec.shape[-1]:,} bins"


SPECTRA = Kind(
    name="spectra", noun="spectra", axes=("channels", "bins"), network="peaks", augment="drift", draw=draw_curve,
    size=describe_size,
)  # fmt: skip
