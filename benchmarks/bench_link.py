"""Does a device over ssh give the figures that it gives at its own keyboard?

    python benchmarks/bench_link.py        writes results/link.json        (some minutes)

This machine is profiled as a device, through a real sshd on loopback with throw-away keys, and as
itself, in turns; twice as itself, so that the noise of the machine stands beside the difference.
Every profile is a call of its own, as a user makes it: in a process that has profiled before, the
same requests take up to a tenth longer.
Needs sshd (Debian: openssh-server) and what tests need.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from micro.sshd import HOW_TO_GET_IT, Sshd, find_sshd  # noqa: E402
from results import write_result  # noqa: E402

from edgevlm.devices.stats import middle  # noqa: E402

MODELS = ("easyvqa-tiny", "scenes-tiny", "fashion-vit")
REQUESTS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    if find_sshd() is None:
        sys.exit(HOW_TO_GET_IT)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "sshd").mkdir()
        with Sshd(home / "sshd") as server:
            os.environ["PATH"] = server.path(os.environ["PATH"])
            os.environ["EDGEVLM_CACHE"] = str(home / "cache")
            rows = [_model(name, home, server.address, rounds) for name in MODELS]
    write_result("link", {"rounds": rounds, "n": REQUESTS, "rows": rows})


def _model(name: str, home: Path, address: str, rounds: int) -> dict[str, Any]:
    bundle = home / f"{name}.edgevlm"
    _call("compile", name, "--target", "cpu", "--payoff", "none", "-o", bundle)
    places = {"here": "local", "again": "local", "there": address}
    seen: dict[str, list[dict]] = {place: [] for place in places}
    for turn in range(rounds):
        order = list(places)[turn % 3 :] + list(places)[: turn % 3]
        for place in order:
            device = ("--device", places[place], "--power", "none")
            seen[place].append(_call("profile", bundle, *device, "-n", REQUESTS))
    stages = {}
    for stage in seen["here"][0]["stages"]:
        p50 = {place: [r["stages"][stage]["p50_ms"] for r in seen[place]] for place in places}
        ratios = {
            place: vars(middle([a / b for a, b in zip(p50[place], p50["here"], strict=True)]))
            for place in ("there", "again")
        }
        stages[stage] = {"here_ms": middle(p50["here"]).median, **ratios}
    clocks = [report["device"]["clock"] for report in seen["there"]]
    row = {
        "model": name,
        "stages": stages,
        "clock_error_s": middle([clock["error_s"] for clock in clocks]).median,
        "clock_drift_s": max(abs(clock["drift_s"]) for clock in clocks),
        "cuts": sum(report["device"]["cuts"] for report in seen["there"]),
    }
    print(row, flush=True)
    return row


def _call(*words: object) -> dict[str, Any]:
    """The JSON of a call of edgevlm."""
    program = "import sys; from edgevlm.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *map(str, words), "--json", "--quiet"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
