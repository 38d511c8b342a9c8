"""Time whole requests to a bundle on the machine that this runs on.

`edgevlm profile` calls it for this machine, and commands/on_device.py on any other: the figures of
both come from the same lines. Nothing here may need onnx, which a device does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgevlm import __version__
from edgevlm.commands.session import open_for_answers, open_for_looks
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.generate import Trace
from edgevlm.devices.host import tool_versions
from edgevlm.devices.power import find_meter
from edgevlm.devices.profiler import profile
from edgevlm.devices.state import describe_state
from edgevlm.devices.sustained import sustained
from edgevlm.devices.thermal import Thermal
from edgevlm.models.answer import Answerer, Viewer
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime

__all__ = [
    "IDLE_S",
    "Advance",
    "Once",
    "Order",
    "Seconds",
    "measure",
    "open_asked",
]

IDLE_S = 5.0  # seconds of idle baseline on either side, when power is read
PACKAGES = ("numpy", "pillow", "tokenizers")  # beside those of the runtime

Advance = Callable[[int, int], None]
Seconds = dict[str, list[float]]  # of each stage of a request
Once = Callable[[np.ndarray, str], Seconds]


class Order(BaseModel):
    """What is to be measured; travels to a device as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    n: int = 100  # timed requests
    warmup: int = 10
    duration_s: float | None = None  # in place of n
    power: str = Field("auto", max_length=40)
    image: str | None = Field(None, max_length=4096)  # a file, in place of the bundle's goldens
    prompt: str | None = Field(None, max_length=65536)
    ops: bool = False


def measure(
    bundle: Bundle,
    order: Order,
    advance: Advance | None = None,
    *,
    how: str = "measured-host",
    checked: bool = False,
) -> dict[str, Any]:
    """What `edgevlm profile --json` says of the machine and of time, energy and heat.

    checked: the bundle's artifacts were read before. Raises EV410 (n, warm-up, duration), EV411
    (nothing to ask), EV402 (no such meter), EV3xx (bundle).
    """
    requests = _requests(bundle, order)
    once, engines = open_asked(bundle, checked)
    meter, reason = find_meter(order.power)
    thermal, before = Thermal(), describe_state()
    result = profile(
        lambda i: once(*requests[i % len(requests)]),
        warmup=order.warmup,
        n=order.n,
        duration_s=order.duration_s,
        meter=meter,
        progress=advance,
        how=how,
        idle_s=IDLE_S,
        thermal=thermal,
    )
    data = result.as_json()
    if meter is None:
        data["energy_note"] = f"not measured: {reason}"
    report = {
        **data,
        "requests": len(requests),
        "window_s": result.window,
        "state": {"before": before, "after": describe_state()},
        "thermal": thermal.as_json(),
        "sustained": sustained([times["end_to_end"][0] for times in result.requests]),
        "tools": {"edgevlm": __version__}
        | tool_versions([*bundle.manifest.target.toolchain, *PACKAGES]),
    }
    if engines:
        report["engines"] = engines
    if order.ops:
        runtime = find_runtime(bundle.manifest.target.runtime)
        report |= runtime.profile_report(bundle, how)
    return report


def open_asked(bundle: Bundle, checked: bool = False) -> tuple[Once, dict[str, Any] | None]:
    """How it is asked; what was built for it here, of a runtime that builds engines."""
    if bundle.manifest.contract.kind == "vlm":
        asked: Answerer | Viewer = open_for_answers(bundle, checked=checked).answerer
        return _answers(asked), _engines(asked.parts)
    asked = open_for_looks(bundle, checked=checked)
    return _looks(asked), _engines(asked.parts)


def _engines(parts: Any) -> dict[str, Any] | None:
    """What was built here; what is timed first answers the goldens as the host did, or EV353."""
    if not hasattr(parts, "report"):
        return None
    parts.check_answers()
    return parts.report


def _answers(answerer: Answerer) -> Once:
    return lambda rgb, question: answerer.answer(rgb, question).seconds


def _looks(viewer: Viewer) -> Once:
    def look(rgb: np.ndarray, _: str) -> Seconds:
        trace = Trace()
        start = perf_counter()
        viewer.look(rgb, trace)
        return {**trace.seconds, "end_to_end": [perf_counter() - start]}

    return look


def _requests(bundle: Bundle, order: Order) -> list[tuple[np.ndarray, str]]:
    if order.image is not None:
        return [(load_image(Path(order.image)), order.prompt or "")]
    if not bundle.manifest.goldens:
        raise UsageFault(
            "EV411",
            f"profile of {bundle.folder.name} without a request",
            "the bundle carries no goldens to ask",
            "give one: --image PICTURE, and --prompt QUESTION where it answers any",
        )
    return [(load_image(bundle.folder / g.image), g.question) for g in bundle.manifest.goldens]
