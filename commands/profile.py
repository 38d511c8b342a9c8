"""`edgevlm profile`: ms a stage, fps, tokens a second and, where a meter is readable, joules."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.commands.payoff_table import stored_payoff
from edgevlm.commands.session import open_for_answers
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.host import tool_versions
from edgevlm.devices.power import find_meter
from edgevlm.devices.profiler import profile
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime

__all__ = ["profile_bundle"]

IDLE_S = 5.0  # seconds of idle baseline on either side, when power is read


def profile_bundle(
    path: Path,
    *,
    device: str = "local",
    n: int = 100,
    warmup: int = 10,
    power: str = "auto",
    image: Path | None = None,
    prompt: str | None = None,
    ops: bool = False,
    advance: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time whole requests on this machine; the JSON of `edgevlm profile --json`.

    The requests are the bundle's goldens in turn, or one picture and question of the caller's.
    Raises EV403 (device), EV410 (n, warm-up), EV411 (what to ask), EV3xx (bundle).
    """
    if device not in ("local", "cpu", "host"):
        raise UsageFault(
            "EV403",
            f"profile on device {device!r}",
            "this version measures on this machine only",
            f"edgevlm profile {shlex.quote(str(path))} --device local",
        )
    if (image is None) != (prompt is None):
        raise UsageFault(
            "EV411",
            "profile with half a request",
            "--image and --prompt belong together",
            "give both, or neither to profile the bundle's own goldens",
        )
    opened = open_for_answers(path)
    answerer, requests = opened.answerer, _requests(path, opened.bundle.manifest, image, prompt)

    def answer_once(i: int) -> dict[str, list[float]]:
        rgb, question = requests[i % len(requests)]
        return answerer.answer(rgb, question).seconds

    meter, reason = find_meter(power)
    result = profile(answer_once, warmup=warmup, n=n, meter=meter, progress=advance, idle_s=IDLE_S)
    data = result.as_json()
    if meter is None:
        data["energy_note"] = f"not measured: {reason}"
    report = {
        "schema": 1,
        "bundle": str(path),
        "bundle_mb": round(opened.bundle.bytes / 1e6, 3),
        "image_tokens": image_tokens(opened.contract),
        **data,
        "requests": len(requests),
        "tools": tool_versions(
            ["edgevlm", *opened.bundle.manifest.target.toolchain, "numpy", "pillow", "tokenizers"]
        ),
    }
    report["payoff"] = stored_payoff(opened.bundle)
    if ops:
        runtime = find_runtime(opened.bundle.manifest.target.runtime)
        report["ops"] = [vars(row) for row in runtime.profile_ops(opened.bundle)]
    return report


def _requests(
    path: Path, manifest: Any, image: Path | None, prompt: str | None
) -> list[tuple[np.ndarray, str]]:
    if image is not None:
        return [(load_image(image), str(prompt))]
    if not manifest.goldens:
        raise UsageFault(
            "EV411",
            f"profile of {path.name} without a request",
            "the bundle carries no goldens to ask",
            "give one: --image PICTURE --prompt QUESTION",
        )
    return [(load_image(path / g.image), g.question) for g in manifest.goldens]
