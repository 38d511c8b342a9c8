"""Nothing leaves the machine unasked, and no library leaves an identifier on it."""

from __future__ import annotations

import os
import subprocess
import sys


def run_a_bundle(bundle, home, **environment):
    code = (
        "from pathlib import Path; from edgevlm.commands.session import *\n"
        "from edgevlm.compiler.bundle import open_bundle\n"
        f"open_for_answers(open_bundle(Path({str(bundle)!r})))\n"
    )
    clean = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
    clean = {key: value for key, value in clean.items() if key not in ("CI", "GITHUB_ACTIONS")}
    subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"XDG_CACHE_HOME": str(home), "HOME": str(home)} | environment,
        check=True,
    )
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())


def test_onnxruntime_keeps_no_device_id_and_no_events(micro_bundle, tmp_path):
    assert run_a_bundle(micro_bundle, tmp_path) == []
