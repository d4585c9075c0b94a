"""The README of the package's page: links of README.md made absolute, as files of a package stand beside no repository.

A metadata hook of hatchling, set up in ``[tool.hatch.metadata.hooks.custom]`` of pyproject.toml.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["ReadmeHook", "absolute_links"]

_INLINE = re.compile(r"(!?)(\[(?:[^\[\]]|!?\[[^\]]*\]\([^)]*\))*\]\()([^)\s]+)")
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
_HTML = re.compile(r"""(href|src)=(["'])([^"']+)""")
_DEFINITION = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)


def _is_absolute(target: str) -> bool:
    return target.startswith(("http://", "https://", "mailto:", "#"))


def absolute_links(text: str, address: str, version: str, root: Path | None = None) -> str:
    """Return Markdown whose links and pictures lead to files of the repository at a version's tag.

    Args:
        text: Markdown with links relative to ``root``.
        address: of the repository, such as ``https://example.org/owner/potstill``.
        version: the tag is ``v`` and the version.
        root: a checkout, in which every target must be there; ``None``: there is none to look in.

    Raises:
        ValueError: a target does not exist, or a link is written in a form that is not replaced.
    """

    def absolute(target: str, kind: str) -> str:
        if _is_absolute(target):
            return target
        path = target.partition("#")[0]
        if root is not None and not (root / path).exists():
            raise ValueError(f"README.md: links must lead to files that exist, but {target} does not; correct the link")
        return f"{address}/{'tree' if kind == 'blob' and path.endswith('/') else kind}/v{version}/{target}"

    def inline(match: re.Match[str]) -> str:
        mark, before, target = match.groups()
        # a picture inside a link's text has a target of its own
        before = before[:1] + _INLINE.sub(inline, before[1:-2]) + before[-2:]
        return f"{mark}{before}{absolute(target, 'raw' if mark else 'blob')}"

    def html(match: re.Match[str]) -> str:
        name, quote, target = match.groups()
        return f"{name}={quote}{absolute(target, 'raw' if name == 'src' else 'blob')}"

    parts = _CODE.split(text)
    parts[::2] = [_HTML.sub(html, _INLINE.sub(inline, part)) for part in parts[::2]]
    for found in (found for part in parts[::2] for found in _DEFINITION.finditer(part)):
        if not _is_absolute(found[1]):
            raise ValueError(f"README.md: links must be written [text](target), not [name]: {found[1]}; rewrite it")
    return "".join(parts)


class ReadmeHook(MetadataHookInterface):
    """Sets the fields ``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill the dynamic fields.

        Raises:
            ValueError: a link cannot be made absolute.
        """
        root, address = Path(self.root), str(self.config.get("address", "")).rstrip("/")
        text = (root / "README.md").read_text(encoding="utf-8")
        metadata["urls"] = {}
        if address:
            text = absolute_links(text, address, str(metadata["version"]), root if (root / ".git").exists() else None)
            metadata["urls"] = {
                "Repository": address, "Issues": f"{address}/issues",
                "Changelog": f"{address}/blob/main/CHANGELOG.md",
            }  # fmt: skip
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
