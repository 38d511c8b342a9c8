"""No figure in docs/measurements.md was typed by hand: the page is what the result files say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_is_generated_from_the_results() -> None:
    script = ROOT / "benchmarks" / "tables.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"run: python benchmarks/tables.py\n{done.stderr}"


def test_every_result_says_where_it_comes_from() -> None:
    results = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        data = json.loads(path.read_text())
        assert data["host"]["cpu_model"] and data["tools"]["onnxruntime"] and data["date"], path
        known = data["how"] in ("measured-host", "estimated-vela")
        assert (known and "n" in data) or "timed" in data, path
