"""One bundle for a report: manifest, record, recipe, probes, and what was measured of it.

Everything is read through the doors that other verbs use, so what they refuse is refused here. A
picture is decoded and written anew: no byte of a stranger's file reaches the page.
"""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydantic import ValidationError

from edgevlm.commands.report_profiles import evals_of, profiles_of
from edgevlm.compiler.bundle import RECORD, Bundle, check_bundle
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.compiler.manifest import Golden, Manifest, Target
from edgevlm.compiler.texts import read_small
from edgevlm.devices import Device, find_device
from edgevlm.devices.report.measured import Profile
from edgevlm.devices.report.recorded import Record
from edgevlm.devices.report.subject import Probe, Subject
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime

__all__ = ["Answered", "gather"]

PROBES, PIXELS = 24, 176  # that are shown, and the longest side of each
MAX_RECIPE_BYTES = 2**20


@dataclass(frozen=True)
class Answered:
    """What became of the probes when they were asked again."""

    words: str
    wrong: bool = False


def gather(
    bundle: Bundle, given: Sequence[Profile] = (), answered: Answered | None = None
) -> Subject:
    """given: profiles from elsewhere. Raises EV322 for a record or recipe that cannot be read."""
    manifest = bundle.manifest
    device, record = _device(manifest.target.device), bundle.record()
    return Subject(
        name=bundle.folder.absolute().resolve().name,
        digest=bundle.digest,
        bytes=bundle.bytes,
        source=manifest.source.name,
        source_digest=manifest.source.digest,
        licence=manifest.source.licence,
        kind=manifest.contract.kind,
        device_id=manifest.target.device,
        device=device.name if device else manifest.target.device,
        runtime=manifest.target.runtime,
        expected=_expected(device, manifest.target),
        edgevlm=manifest.edgevlm,
        toolchain=manifest.target.toolchain,
        tokens=image_tokens(manifest.contract),
        passes=[entry.model_dump() for entry in manifest.passes],
        recipe=_recipe(bundle),
        verified=manifest.verified,
        not_verified=manifest.not_verified,
        files={name: (entry.bytes, entry.sha256) for name, entry in manifest.files.items()},
        record=_record(bundle, record),
        probes=[_probe(bundle, golden) for golden in manifest.goldens[:PROBES]],
        probes_left_out=max(0, len(manifest.goldens) - PROBES),
        profiles=profiles_of(bundle, given),
        evals=evals_of(bundle),
        changed_files=check_bundle(bundle.folder),
        answered=answered and answered.words,
        answered_wrong=bool(answered and answered.wrong),
        extra=manifest.source.notes if not record else (),
    )


def _device(name: str) -> Device | None:
    """None for a device that this version does not know."""
    try:
        return find_device(name)
    except EdgeError:
        return None


def _expected(device: Device | None, target: Target) -> str | None:
    """The unit that the bundle goes to, where its runtime chooses; else the device's first.

    The file of the host names none, as hosts differ.
    """
    with contextlib.suppress(EdgeError):  # a runtime that this version does not know
        if unit := find_runtime(target.runtime).unit_of(target.sdk):
            return unit
    if device is None:
        return None
    return device.units[0].kind if device.units else "cpu" if device.host else None


def _record(bundle: Bundle, record: dict[str, Any]) -> Record:
    try:
        return Record.model_validate(record)
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {}
        place = ".".join(map(str, first.get("loc", ()))) or RECORD
        raise _broken(
            bundle, RECORD, f"{place}: {first.get('msg', 'nested too deeply')}"
        ) from error


def _recipe(bundle: Bundle) -> str:
    path = bundle.folder / "recipe.toml"
    if "recipe.toml" not in bundle.manifest.files:
        return "(this bundle has no recipe.toml)"
    try:
        return read_small(path, MAX_RECIPE_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(bundle, path.name, f"{type(error).__name__}: {error}") from error


def _probe(bundle: Bundle, golden: Golden) -> Probe:
    """A picture that cannot be read leaves a gap that says so; its figures are not lost with it."""
    answer = _said(bundle.manifest, golden)
    try:
        picture = Image.fromarray(load_image(bundle.folder / golden.image))
    except EdgeError as fault:
        return Probe(None, (0, 0), golden.question, answer, f"{fault.code}: {fault.why}"[:200])
    picture.thumbnail((PIXELS, PIXELS))
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return Probe(data.getvalue(), picture.size, golden.question, answer)


def _said(manifest: Manifest, golden: Golden) -> str:
    """In words; of a classifier the answer is a number of a class."""
    names = manifest.processor.class_names
    if manifest.contract.kind == "classifier" and golden.token_ids:
        number = golden.token_ids[0]
        return names[number] if 0 <= number < len(names) else f"class {number}"
    return golden.answer


def _broken(bundle: Bundle, name: str, why: str) -> JobFault:
    folder = shlex.quote(str(bundle.folder))
    return JobFault(
        "EV322",
        f"{name} of {bundle.folder.name} is broken",
        why[:300],
        f"copy or compile it again (edgevlm verify {folder} checks it all)",
    )
