"""How long a person waits: `edgevlm --help`, and a compile in a new process.

python benchmarks/bench_startup.py      writes benchmarks/results/startup.json
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from results import write_result

from edgevlm.devices.stats import summarise

RUNS = 10


def seconds(*arguments: str) -> float:
    start = perf_counter()
    subprocess.run(
        [sys.executable, "-m", "edgevlm.cli", *arguments], check=True, capture_output=True
    )
    return perf_counter() - start


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        bundle = str(Path(scratch) / "b.edgevlm")
        calls = {
            "edgevlm --help": ["--help"],
            "edgevlm compile easyvqa-tiny --tokens 16 --quant w8 --payoff none": [
                "compile",
                "easyvqa-tiny",
                "--target",
                "cpu",
                "--tokens",
                "16",
                "--quant",
                "w8",
                "--payoff",
                "none",
                "-o",
                bundle,
                "--force",
            ],
            "edgevlm verify": ["verify", bundle],
        }
        for name, call in calls.items():
            seconds(*call)  # the first run reads files into the page cache
            summary = summarise([seconds(*call) for _ in range(RUNS)], "measured-host")
            rows.append({"call": name, **summary.as_json()})
            print(rows[-1])
    write_result("startup", {"n": RUNS, "rows": rows})


if __name__ == "__main__":
    main()
