"""Reading a profile takes no package of a vendor: not torch, not executorch, not pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import edgevlm

HEAVY = ("torch", "executorch", "pandas", "flatbuffers", "onnx")


def test_nothing_heavy_is_imported():
    folder = Path(edgevlm.__file__).parent / "runtimes" / "executorch"
    mine = ("etdump", "host_profile", "layer_times", "nodes", "op_rows", "sdk")
    found = [folder / f"{name}.py" for name in mine]
    found += [*(folder / "android").glob("*.py"), *(folder / "qnn").glob("*.py")]
    names = [f"edgevlm.{path.relative_to(folder.parent.parent).with_suffix('')}" for path in found]
    lines = [f"import {name.replace('/', '.').removesuffix('.__init__')}" for name in names]
    lines += ["import sys", f"print([name for name in {HEAVY!r} if name in sys.modules])"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
