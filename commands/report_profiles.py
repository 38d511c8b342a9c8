"""Profiles for a report: those that were kept, and files that somebody brings from elsewhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from edgevlm.commands.kept import kept
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.texts import read_small
from edgevlm.devices.report.evaluated import Eval
from edgevlm.devices.report.measured import Profile, is_measured

__all__ = ["assign", "evals_of", "profiles_of", "read_profile"]

MAX_BYTES = 64 * 2**20
MOST = 8  # profiles, and data sets, of one bundle


def read_profile(file: Path) -> tuple[Path, Profile]:
    """A file of `edgevlm profile --json`, or of a prediction. Raises EV412."""
    try:
        data = json.loads(read_small(file, MAX_BYTES), parse_constant=_no_number)
        return file, Profile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    except RecursionError:
        why = "nested too deeply"
    except (OSError, ValueError) as error:  # a byte that is no UTF-8 is a ValueError
        why = f"{type(error).__name__}: {error}"
    raise JobFault(
        "EV412",
        f"profile {file.name[:200]} cannot be read",
        why[:300],
        "edgevlm profile BUNDLE --json > FILE.json  makes one",
    )


def assign(
    read: Sequence[tuple[Path, Profile]], bundles: Sequence[Bundle]
) -> dict[str, list[Profile]]:
    """Digest of a bundle -> the profiles that are its own.

    By digest; a file without one goes to the only bundle of the name that it was measured under.
    Raises EV412 for a profile of another bundle: figures must not change their owner.
    """
    found: dict[str, list[Profile]] = {bundle.digest: [] for bundle in bundles}
    for file, profile in read:
        digests = {b.digest for b in bundles if _owns(b, profile)}
        if len(digests) != 1:
            said = profile.digest or f"name {PurePath(profile.bundle or '?').name[:80]}"
            raise UsageFault(
                "EV412",
                f"profile {file.name[:200]} belongs to none of these bundles"
                if not digests
                else f"profile {file.name[:200]} may belong to several of these bundles",
                f"it was measured of the bundle with {said}",
                f"edgevlm profile {shlex.quote(bundles[0].folder.name)} --json > FILE.json",
            )
        found[digests.pop()].append(profile)
    return found


def _owns(bundle: Bundle, profile: Profile) -> bool:
    if profile.digest is not None:
        return profile.digest == bundle.digest
    return PurePath(profile.bundle or "").name == bundle.folder.absolute().resolve().name


def profiles_of(bundle: Bundle, given: Sequence[Profile]) -> list[Profile]:
    """Given ones, then the newest kept one of each place; what the summary tells comes first.

    Where that did not time ops, the newest that did lends its own, with its date.

    That is what was measured on a device over what was measured here, over what was predicted.
    """
    every = [*given, *_valid(Profile, kept("profile", bundle))]
    newest: dict[tuple[str, str], Profile] = {}
    for profile in every:
        first = newest.setdefault((profile.place, profile.how), profile)
        if profile.ops and not first.ops:  # of the same bundle in the same place, only earlier
            timed = {"ops": profile.ops, "layers": profile.layers, "ops_at": profile.at}
            newest[profile.place, profile.how] = first.model_copy(update=timed)
    target = bundle.manifest.target.device
    return sorted(
        newest.values(),
        key=lambda p: (not is_measured(p.how), p.device.id != target, p.how != "measured-device"),
    )[:MOST]


def evals_of(bundle: Bundle) -> list[Eval]:
    """The newest of each set of questions; the one with the most of them first."""
    newest: dict[tuple[str, ...], Eval] = {}
    for one in _valid(Eval, kept("eval", bundle)):
        newest.setdefault(one.key, one)
    return sorted(newest.values(), key=lambda one: -one.overall.n)[:MOST]


def _valid(model: type[Any], entries: Sequence[dict[str, Any]]) -> list[Any]:
    """What an older version kept, and cannot be read any more, is passed over."""
    found = []
    for entry in entries:
        try:
            found.append(model.model_validate(entry))
        except ValidationError:
            continue
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
