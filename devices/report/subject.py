"""One bundle as a page shows it: what its maker gathered, in plain words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevlm.devices.report.evaluated import Eval
from edgevlm.devices.report.measured import Profile, is_measured
from edgevlm.devices.report.recorded import Record

__all__ = ["Probe", "Subject"]


@dataclass(frozen=True)
class Probe:
    """A picture of the probe set with what the bundle answers. `picture` is PNG, or why not."""

    picture: bytes | None
    size: tuple[int, int]  # pixels of the picture that is shown
    question: str
    answer: str
    fault: str = ""


@dataclass(frozen=True)
class Subject:
    """Everything here may be hostile text; only the template turns it into HTML."""

    name: str  # of its folder
    digest: str
    bytes: int
    source: str
    source_digest: str
    licence: str | None
    kind: str  # vlm, classifier, dense
    device_id: str
    device: str  # name of the target
    runtime: str
    expected: str | None  # kind of the unit that models are lowered to; None: the file names none
    edgevlm: str
    toolchain: Mapping[str, str]
    tokens: Mapping[str, Any]  # `image_tokens` of compile
    passes: Sequence[Mapping[str, Any]]  # of the manifest
    recipe: str
    verified: Mapping[str, str]
    not_verified: Mapping[str, str]
    files: Mapping[str, tuple[int, str]]  # name -> bytes, sha256
    record: Record
    probes: Sequence[Probe] = ()
    probes_left_out: int = 0
    profiles: Sequence[Profile] = ()  # one a place, the one to be told first in front
    evals: Sequence[Eval] = ()  # one a data set, the newest
    changed_files: Sequence[str] = ()  # what check_bundle found
    answered: str | None = None  # what was found when the probes were asked again just now
    answered_wrong: bool = False
    extra: Sequence[str] = ()  # further notes

    @property
    def profile(self) -> Profile | None:
        """The one the summary tells."""
        return self.profiles[0] if self.profiles else None

    @property
    def measured(self) -> Sequence[Profile]:
        return [p for p in self.profiles if is_measured(p.how)]

    @property
    def megabytes(self) -> float:
        """1e6 bytes."""
        return self.bytes / 1e6

    @property
    def wait(self) -> str:
        """What `Profile.answer_ms` is of."""
        return "time to first token" if self.kind == "vlm" else "time of a picture"
