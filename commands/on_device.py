"""What runs on a device that has no edgevlm: the main program of `carry.runner`.

It takes an order and a bundle, and leaves result.json: what was measured, or the error. How far it
is goes into a file, a line of JSON at a time and seldom, since writing costs time too.
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

__all__ = ["ORDER", "PROGRESS", "RESULT", "main"]

ORDER, PROGRESS, RESULT = "order.json", "progress", "result.json"
TELL_EVERY_S = 0.5


def main(argv: list[str] | None = None) -> int:
    """`BUNDLE FOLDER`: the order is in FOLDER, and what comes out is left there."""
    parser = argparse.ArgumentParser(prog="run_on_device", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(argv)
    try:
        order = Order.model_validate_json((asked.folder / ORDER).read_bytes())
        tell = _teller(asked.folder / PROGRESS)
        # its files have the digests of those that were checked before they were sent
        bundle = open_bundle(asked.bundle)
        result: dict[str, Any] = measure(bundle, order, tell, how="measured-device", checked=True)
    except EdgeError as fault:
        result = {"error": fault.as_json()}
    draft = asked.folder / f"{RESULT}.part"
    draft.write_text(json.dumps(result), encoding="utf-8")
    draft.replace(asked.folder / RESULT)
    return 0


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
