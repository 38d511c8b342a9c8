"""Vendors' SDKs: where they are, whether they are whole, and what works without them.

None comes from a package index: their licences are agreed to on their makers' sites. Nothing is
fetched here. Call `find_qnn_sdk` before anything of executorch.backends.qualcomm, which loads the
SDK from the web by itself where QNN_SDK_ROOT is not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.errors import JobFault

__all__ = ["QnnSdk", "SdkMissing", "find_qnn_sdk"]

HOST, DEVICE = "x86_64-linux-clang", "aarch64-android"
QNN_ROOT = "QNN_SDK_ROOT"
#: what compiles for the HTP on this host
QNN_COMPILES = (f"lib/{HOST}/libQnnHtp.so", f"lib/{HOST}/libQnnSystem.so")
#: what profiles on a phone, and reads on this host what it wrote
QNN_PROFILES = (
    f"bin/{HOST}/qnn-profile-viewer",
    f"bin/{DEVICE}/qnn-net-run",
    f"lib/{DEVICE}/libQnnHtp.so",
    f"lib/{DEVICE}/libQnnHtpNetRunExtensions.so",
)
MOST_TEXT = 2**16


class SdkMissing(JobFault):
    """An SDK that its maker alone gives away. EV362."""


@dataclass(frozen=True)
class QnnSdk:
    """Qualcomm AI Runtime (QAIRT). version: 2.37.0.250724, or None where nothing says it."""

    root: Path
    version: str | None

    def tool(self, name: str, where: str = HOST) -> Path:
        return self.root / "bin" / where / name

    def library(self, name: str, where: str = HOST) -> Path:
        return self.root / "lib" / where / name


def find_qnn_sdk(
    environ: Mapping[str, str] = os.environ, files: Sequence[str] = QNN_COMPILES
) -> QnnSdk:
    """files: that have to be in it. Raises SdkMissing EV362."""
    root = environ.get(QNN_ROOT, "")
    why = _lacks(root, QNN_ROOT, files)
    if why:
        raise SdkMissing(
            "EV362",
            "Qualcomm's SDK (QAIRT) is not usable",
            why,
            f"unpack it from Qualcomm's site, export {QNN_ROOT}=its folder with bin/ and lib/; "
            "the phone's CPU needs none of it: --toolchain xnnpack",
        )
    return QnnSdk(Path(root), _qnn_version(Path(root)))


def _lacks(root: str, name: str, files: Sequence[str]) -> str | None:
    if not root:
        return f"{name} is not set; pip brings no such SDK"
    if not Path(root).is_dir():
        return f"{name} names no folder: {root[:200]}"
    missing = [each for each in files if not (Path(root) / each).is_file()]
    return f"{name} names a folder that has no {', no '.join(missing)}" if missing else None


def _qnn_version(root: Path) -> str | None:
    """sdk.yaml of newer ones, else the name of the folder."""
    found = re.search(r"^version:\s*[\"']?v?([\d.]+)", _text(root / "sdk.yaml"), re.MULTILINE)
    named = re.fullmatch(r"(?:qairt-|sdk-|v)?(\d+\.\d+\.\d+(?:\.\d+)?)", root.resolve().name)
    return found[1] if found else named[1] if named else None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""
