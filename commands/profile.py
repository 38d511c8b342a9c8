"""`edgevlm profile`: ms a stage, fps, tokens a second and, where a meter is readable, joules.

A request is a picture with a question, or, for a bundle without words, a picture. This machine and
devices over ssh or adb run the same `measure`; only the way there differs. A phone, which has no
Python, is timed by the runtime's own program.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgevlm.commands.kept import keep as keep_report
from edgevlm.commands.output import Bar, silent
from edgevlm.commands.payoff_table import stored_payoff
from edgevlm.commands.predict import check_asked, predict_bundle
from edgevlm.commands.profile_here import Order, measure
from edgevlm.commands.profile_there import measure_there
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.connect.address import connection_to, is_address
from edgevlm.devices.connect.clock import Alignment
from edgevlm.devices.host import boot_time
from edgevlm.devices.power import check_meter
from edgevlm.devices.profiler import check_counts
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime

__all__ = ["check_request", "profile_bundle", "seconds"]

HERE = ("local", "cpu", "host")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")


def profile_bundle(
    path: Path,
    *,
    device: str = "local",
    n: int = 100,
    warmup: int = 10,
    duration: str | None = None,
    power: str = "auto",
    image: Path | None = None,
    prompt: str | None = None,
    ops: bool = False,
    python: str | None = None,
    runner: Path | None = None,
    keep: bool = False,
    bar: Bar = silent,
) -> dict[str, Any]:
    """Time whole requests; the JSON of `edgevlm profile --json`.

    device: local, ssh://USER@HOST or adb:SERIAL; with the name of a device file the times are
    predicted (commands/predict.py). The requests are the bundle's goldens in turn, or one picture
    (and question) of the caller's. python, runner, keep: as for `measure_there`. Raises EV220 (a
    question to a bundle without words, a runner where none is wanted), EV301, EV403 (device), EV410
    (n, warm-up, duration), EV411 (what to ask), EV364, EV430-EV439 (a device elsewhere), EV3xx
    (bundle).
    """
    bundle = open_bundle(path)
    if device not in HERE and not is_address(device):
        check_asked(
            image=image, prompt=prompt, power=power, duration=duration, python=python, runner=runner
        )
        report = predict_bundle(bundle, device, ops=ops)
        keep_report("profile", bundle, report)
        return report
    words = bundle.manifest.contract.kind == "vlm"
    check_request(path, words, image, prompt)
    duration_s = None if duration is None else seconds(duration)
    check_counts(warmup, n, duration_s)
    check_meter(power)
    order = Order(
        n=n,
        warmup=warmup,
        duration_s=duration_s,
        power=power,
        image=None if image is None else str(image),
        prompt=prompt,
        ops=ops,
    )
    if device in HERE:
        if runner is not None:
            raise UsageFault(
                "EV220",
                f"--runner {runner.name[:60]} on this machine",
                "the bundle runs in this process",
                "leave it out, or name a device: --device adb:SERIAL",
            )
        find_runtime(bundle.manifest.target.runtime).check_timed(bundle)
        with bar("profile") as advance:
            measured = measure(bundle, order, advance)
        measured["device"] = {"reached": "local", "cuts": 0, "clock": None}
        aligned = Alignment(0.0, 0.0)
    else:
        connection = connection_to(device)
        if image is not None:
            load_image(image)  # what is wrong with it is told before anything is copied
        measured, aligned = measure_there(
            bundle, order, connection, bar, python=python, runner=runner, keep=keep
        )
    window = measured.pop("window_s")
    report = {
        "schema": 1,
        "bundle": str(path),
        "digest": bundle.digest,
        "bundle_mb": round(bundle.bytes / 1e6, 3),
        "image_tokens": image_tokens(bundle.manifest.contract),
        **measured,
        "timed": _moments(window, aligned),
        "payoff": stored_payoff(bundle),
    }
    keep_report("profile", bundle, report)
    return report


def _moments(window: Sequence[float], aligned: Alignment | None) -> dict[str, Any] | None:
    """When the timed requests ran, by our UTC clock: what a meter of ours saw is laid over it."""
    if aligned is None:
        return None
    now = time.time() - boot_time()
    begin, end = (
        datetime.fromtimestamp(now + aligned.ours(at), UTC).isoformat(timespec="milliseconds")
        for at in window
    )
    return {"begin": begin, "end": end, "error_s": aligned.error_s}


def seconds(text: str) -> float:
    """30, 30s, 5m, 1h -> seconds. Raises EV410."""
    found = _SECONDS.fullmatch(text.strip())
    if found is None:
        raise UsageFault(
            "EV410",
            f"profile with --duration {text[:80]}",
            "it is a number with s, m or h behind it",
            "--duration 30s",
        )
    return float(found[1]) * {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600}[found[2]]


def check_request(path: Path, words: bool, image: Path | None, prompt: str | None) -> None:
    if prompt is not None and not words:
        raise UsageFault(
            "EV220",
            f"--prompt for {path.name}",
            "it answers no questions: a request is a picture",
            "leave it out",
        )
    if words and (image is None) != (prompt is None):
        raise UsageFault(
            "EV411",
            "profile with half a request",
            "--image and --prompt belong together",
            "give both, or neither to profile the bundle's own goldens",
        )
