"""What a compile is given beside the model: calibration inputs, and a floor with a meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.verify import ProbeInput
from edgevlm.models.answer import probe_inputs
from edgevlm.models.calibration import calibration_probes

__all__ = ["calibration_inputs", "check_floor"]


def calibration_inputs(
    asked: str | None, original: ExportedModel, passes: Sequence[Pass]
) -> Callable[[ExportedModel], list[ProbeInput]] | None:
    """What makes the inputs for a model, whose picture size a pass may change.

    Raises EV13x, and EV220 where no pass would look at them.
    """
    if asked is None:
        return None
    if not any(step.calibrated for step in passes):
        raise UsageFault(
            "EV220",
            f"--calib {asked[:80]}",
            "no pass of this compile fits anything to inputs, so it would do nothing",
            "leave it out, or --quant w8a8, or --kv int8",
        )
    found = calibration_probes(asked, original)
    return lambda m: probe_inputs(m.contract, m.processor, m.tokenizer, found)


def check_floor(min_sqnr: float | None) -> None:
    """Raises EV202 for a floor that nothing could be under."""
    if min_sqnr is not None and not math.isfinite(min_sqnr):
        raise UsageFault(
            "EV202",
            f"--min-sqnr {min_sqnr}",
            "with it nothing would be checked",
            "give a number of dB, such as 15",
        )
