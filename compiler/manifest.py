"""manifest.json: what is in a bundle. Deterministic: the same inputs give the same bytes.

What differs from run to run (seconds, memory, drift measured on this machine) is in record.json
beside it; both are covered by SHA256SUMS, which `sha256sum -c` reads as well.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgevlm.compiler.beside import Processor, Source
from edgevlm.compiler.contract import Contract, Role

__all__ = [
    "SCHEMA",
    "TOKENIZER",
    "Also",
    "Artifact",
    "FileEntry",
    "Golden",
    "Manifest",
    "PassEntry",
    "Target",
]

SCHEMA = 1
TOKENIZER = "processor/tokenizer.json"
RelativePath = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=200),
]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Strict):
    """One file of the bundle."""

    bytes: int = Field(ge=0)
    sha256: Digest


class Artifact(_Strict):
    """What a runtime consumes for one part. `settings` are the runtime's own."""

    role: Role
    file: RelativePath
    settings: dict[str, Any] = {}


class PassEntry(_Strict):
    name: str
    effect: str
    options: dict[str, Any]
    changed: bool


class Golden(_Strict):
    """A probe with the answer this bundle must give."""

    image: RelativePath
    question: str
    answer: str
    token_ids: tuple[int, ...]


class Target(_Strict):
    device: str
    runtime: str
    toolchain: dict[str, str]  # package -> version the artifacts were made with
    sdk: dict[str, str] = {}  # what is on the device -> version they were made for


class Also(_Strict):
    """The same model for another runtime of the same device: Core AI beside Core ML."""

    runtime: str
    toolchain: dict[str, str]
    sdk: dict[str, str] = {}
    artifacts: tuple[Artifact, ...]


class Manifest(_Strict):
    """The whole of manifest.json."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    edgevlm: str
    source: Source
    target: Target
    contract: Contract
    processor: Processor
    passes: tuple[PassEntry, ...]
    artifacts: tuple[Artifact, ...]
    also: tuple[Also, ...] = ()
    elsewhere: tuple[Role, ...] = ()  # parts that another program runs; it has no artifacts of them
    engine: str  # "not needed", or what the device still has to build
    verified: dict[str, str]  # what was checked, and how
    not_verified: dict[str, str]  # what was not, and why
    goldens: tuple[Golden, ...]
    files: dict[RelativePath, FileEntry]

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        """Whatever the bundle is used for is listed, and so has a digest."""
        roles = [*(a.role for a in self.artifacts), *self.elsewhere]
        if sorted(roles) != sorted(self.contract.roles) or not self.artifacts:
            raise ValueError(f"has artifacts for {roles}, needs {list(self.contract.roles)}")
        for other in self.also:
            if sorted(a.role for a in other.artifacts) != sorted(a.role for a in self.artifacts):
                raise ValueError(f"{other.runtime} has not the parts of {self.target.runtime}")
        made = [a.file for each in (self, *self.also) for a in each.artifacts]
        used = [TOKENIZER, *made, *(g.image for g in self.goldens)]
        for name in used:
            if name not in self.files:
                raise ValueError(f"uses {name}, which is not among its files")
        return self
