"""`edgevlm profile`: ms a stage, fps, tokens a second and, where a meter is readable, joules.

A request is a picture with a question, or, for a bundle without words, a picture.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edgevlm.commands.kept import keep
from edgevlm.commands.payoff_table import stored_payoff
from edgevlm.commands.predict import check_asked, predict_bundle
from edgevlm.commands.session import open_for_answers, open_for_looks
from edgevlm.compiler.bundle import Bundle, open_bundle
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.generate import Trace
from edgevlm.devices.host import tool_versions
from edgevlm.devices.power import find_meter
from edgevlm.devices.profiler import profile
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime

__all__ = ["profile_bundle"]

IDLE_S = 5.0  # seconds of idle baseline on either side, when power is read

Seconds = dict[str, list[float]]  # of each stage of a request
Once = Callable[[np.ndarray, str], Seconds]


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

    The requests are the bundle's goldens in turn, or one picture (and question) of the caller's.
    Raises EV220 (a question to a bundle without words), EV403 (device), EV410 (n, warm-up), EV411
    (what to ask), EV3xx (bundle).
    """
    if device not in ("local", "cpu", "host"):
        if ":" not in device:
            check_asked(image=image, prompt=prompt, power=power)
            return predict_bundle(path, device, ops=ops)
        raise UsageFault(
            "EV403",
            f"profile on device {device!r}",
            "this version measures on this machine only",
            f"edgevlm profile {shlex.quote(str(path))} --device local",
        )
    bundle = open_bundle(path)
    words = bundle.manifest.contract.kind == "vlm"
    _check_request(path, words, image, prompt)
    requests = _requests(path, bundle.manifest, image, prompt)
    once = (_answers if words else _looks)(bundle)
    meter, reason = find_meter(power)
    result = profile(
        lambda i: once(*requests[i % len(requests)]),
        warmup=warmup,
        n=n,
        meter=meter,
        progress=advance,
        idle_s=IDLE_S,
    )
    data = result.as_json()
    if meter is None:
        data["energy_note"] = f"not measured: {reason}"
    report = {
        "schema": 1,
        "bundle": str(path),
        "bundle_mb": round(bundle.bytes / 1e6, 3),
        "image_tokens": image_tokens(bundle.manifest.contract),
        **data,
        "requests": len(requests),
        "tools": tool_versions(
            ["edgevlm", *bundle.manifest.target.toolchain, "numpy", "pillow", "tokenizers"]
        ),
    }
    report["payoff"] = stored_payoff(bundle)
    if ops:
        runtime = find_runtime(bundle.manifest.target.runtime)
        report["ops"] = [vars(row) for row in runtime.profile_ops(bundle)]
    keep("profile", bundle, report)
    return report


def _answers(bundle: Bundle) -> Once:
    answerer = open_for_answers(bundle).answerer
    return lambda rgb, question: answerer.answer(rgb, question).seconds


def _looks(bundle: Bundle) -> Once:
    viewer = open_for_looks(bundle)

    def look(rgb: np.ndarray, _: str) -> Seconds:
        trace = Trace()
        start = perf_counter()
        viewer.look(rgb, trace)
        return {**trace.seconds, "end_to_end": [perf_counter() - start]}

    return look


def _check_request(path: Path, words: bool, image: Path | None, prompt: str | None) -> None:
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


def _requests(
    path: Path, manifest: Any, image: Path | None, prompt: str | None
) -> list[tuple[np.ndarray, str]]:
    if image is not None:
        return [(load_image(image), prompt or "")]
    if not manifest.goldens:
        raise UsageFault(
            "EV411",
            f"profile of {path.name} without a request",
            "the bundle carries no goldens to ask",
            "give one: --image PICTURE, and --prompt QUESTION where it answers any",
        )
    return [(load_image(path / g.image), g.question) for g in manifest.goldens]
