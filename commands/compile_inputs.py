"""What a compile is given beside the model: calibration inputs, and a floor with a meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgevlm.commands.derived import Split, split_pictures
from edgevlm.commands.derived_domain import split_rows
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Pass
from edgevlm.devices import Device
from edgevlm.models.answer import inputs_of
from edgevlm.models.calibration import calibration_set
from edgevlm.models.domain_rows import domain_set
from edgevlm.models.picture_folders import CalibrationSet
from edgevlm.passes.derive.asked import Derived

__all__ = ["CalibrationInputs", "calibration_inputs", "check_floor", "check_os"]


@dataclass(frozen=True)
class CalibrationInputs:
    """Makes the inputs for a model, whose picture size a pass may change."""

    split: Split
    notes: tuple[str, ...] = ()

    def __call__(self, model: ExportedModel) -> list[ProbeInput]:
        return inputs_of(model, self.split.fit)


def calibration_inputs(
    asked: str | None,
    original: ExportedModel,
    passes: Sequence[Pass],
    derived: Derived | None = None,
    found: CalibrationSet | None = None,
    rounds: bool = False,
) -> CalibrationInputs | None:
    """What `--calib` gives; None without it. found: the pictures, where they were read before.
    rounds: the runtime fits ranges to them, whether or not a pass does.

    Raises EV13x, and EV220 where no pass would look at them or one cannot do without.
    """
    if asked is None:
        if derived and (derived.narrows or derived.purify):
            raise UsageFault(
                "EV220",
                "a smaller model without --calib",
                "it is fitted to pictures of what it will see, and there are none",
                "--calib FOLDER with FOLDER/<class>/*.png",
            )
        return None
    if derived and derived.domain:
        found = domain_set(derived.domain, original)
        return CalibrationInputs(split_rows(found.probes), (_for_domain(derived), *found.notes))
    if not rounds and not any(step.calibrated for step in passes):
        raise UsageFault(
            "EV220",
            f"--calib {asked[:80]}",
            "no pass of this compile fits anything to inputs, so it would do nothing",
            "leave it out, or --alpha 0.5, --quant w8a8 or --kv int8",
        )
    found = found or calibration_set(asked, original)
    return CalibrationInputs(split_pictures(found.probes, derived, original), found.notes)


def _for_domain(derived: Derived) -> str:
    return (
        f"derived for the domain {derived.domain[:120]}: this bundle is domain-specific, not "
        "class-specific; its vision tower was fitted to pictures of that domain and is worse on "
        "others"
    )


def check_floor(min_sqnr: float | None) -> None:
    """Raises EV202 for a floor that nothing could be under."""
    if min_sqnr is not None and not math.isfinite(min_sqnr):
        raise UsageFault(
            "EV202",
            f"--min-sqnr {min_sqnr}",
            "with it nothing would be checked",
            "give a number of dB, such as 15",
        )


def check_os(toolchain: str | None, device: Device) -> None:
    """`--os` is a toolchain of Apple's devices alone. Raises EV220."""
    if toolchain is None or not toolchain.startswith("ios-") or device.runtime == "coreml":
        return
    raise UsageFault(
        "EV220",
        f"--os {toolchain.removeprefix('ios-')} for {device.id}",
        "versions of iOS are for iPhones and Macs",
        "leave it out, or --target iphone",
    )
