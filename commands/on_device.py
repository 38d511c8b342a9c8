"""What runs on a device that has no edgevlm: the main program of `carry.runner`.

`measure` takes an order and a bundle, and leaves result.json: what was measured, or the error. How
far it is goes into a file, a line of JSON at a time and seldom, since writing costs time too.
`describe` prints what the machine is and which meters can be read there.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from edgevlm.commands.profile_here import Order, measure
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.errors import EdgeError
from edgevlm.devices.host import describe_host
from edgevlm.devices.power import METERS
from edgevlm.devices.state import describe_state
from edgevlm.devices.thermal import temperatures

__all__ = ["ORDER", "PROGRESS", "RESULT", "main"]

ORDER, PROGRESS, RESULT = "order.json", "progress", "result.json"
TELL_EVERY_S = 0.5


def main(argv: list[str] | None = None) -> int:
    """`describe`, or `measure BUNDLE FOLDER`: FOLDER has the order and gets the result."""
    parser = argparse.ArgumentParser(prog="run_on_device", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("describe")
    measuring = verbs.add_parser("measure")
    measuring.add_argument("bundle", type=Path)
    measuring.add_argument("folder", type=Path)
    asked = parser.parse_args(argv)
    if asked.verb == "describe":
        print(json.dumps(_describe()))
    else:
        _measure(asked.bundle, asked.folder)
    return 0


def _describe() -> dict[str, Any]:
    return {
        "host": describe_host().as_json(),
        "state": describe_state(),
        "celsius": temperatures(),
        "meters": {name: make().available() for name, make in METERS.items()},
    }


def _measure(path: Path, folder: Path) -> None:
    try:
        order = Order.model_validate_json((folder / ORDER).read_bytes())
        tell = _teller(folder / PROGRESS)
        # its files have the digests of those that were checked before they were sent
        bundle = open_bundle(path)
        result: dict[str, Any] = measure(bundle, order, tell, how="measured-device", checked=True)
    except EdgeError as fault:
        result = {"error": fault.as_json()}
    draft = folder / f"{RESULT}.part"
    draft.write_text(json.dumps(result), encoding="utf-8")
    draft.replace(folder / RESULT)


def _teller(path: Path) -> Callable[[int, int], None]:
    last = float("-inf")

    def tell(done: int, total: int) -> None:
        nonlocal last
        if monotonic() - last < TELL_EVERY_S and done != total:
            return
        last = monotonic()
        line = json.dumps({"event": "progress", "done": done, "total": total}) + "\n"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())  # whole: a reader follows behind
        finally:
            os.close(handle)

    return tell
