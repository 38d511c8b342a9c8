"""What a bundle says of the pieces of a part, in `settings` of its artifact; files by their names.

ethos/NAME.pte            for the device: an NPU's command streams, or portable kernels
ethos/NAME.0.tosa         the graph that Vela was given, for each of its delegates
ethos/NAME.0.summary.csv, NAME.0.layers.csv      Vela's tables
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.compiler.manifest import Artifact

__all__ = ["FOLDER", "Told", "told_by"]

FOLDER = "ethos"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")]
Port = Annotated[str, Field(max_length=500)]


class Told(BaseModel):
    """One piece. signature: of tosa.py, of what runs on the NPU; sqnr_db: to its float graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    runs: Literal["device", "host"]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    delegates: int = Field(ge=0, le=1000)
    signature: dict[str, Any] | None = None
    sqnr_db: float | None = None

    @model_validator(mode="after")
    def _run_by_somebody(self) -> Told:
        if self.runs == "device" and not self.delegates:
            raise ValueError(f"{self.name} is the NPU's, and nothing of it is")
        return self

    @property
    def program(self) -> str:
        return f"{FOLDER}/{self.name}.pte"

    def files(self, end: str) -> list[str]:
        """end: tosa, summary.csv, layers.csv."""
        return [f"{FOLDER}/{self.name}.{i}.{end}" for i in range(self.delegates)]


def told_by(artifact: Artifact, folder: Path) -> list[Told]:
    """Raises EV304."""
    try:
        return [Told.model_validate(each) for each in artifact.settings["pieces"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise unusable(folder / artifact.file, "its manifest does not tell its pieces") from error
