"""What goes with the graphs: where a model is from, how pictures and words become tensors, probes.

A device that runs a bundle reads this too, and has no onnx: nothing here may need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Probe", "ProbeInput", "Processor", "Source"]


class Source(BaseModel):
    """Where a model came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=200)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")  # of what the user handed over
    licence: str | None = None
    notes: tuple[Annotated[str, Field(max_length=400)], ...] = ()  # what was taken for granted


class Processor(BaseModel):
    """How pictures and words become tensors; read by `models/processing`, opaque to passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: dict[str, Any]  # fields of models.processing.preprocess.ImageProcessor
    template: str = Field(max_length=65536)  # the prompt, with the image token and {question}
    image_token: str = Field(min_length=1, max_length=64)
    bos_id: int | None = None
    eos_ids: tuple[int, ...]
    class_names: tuple[str, ...] = ()


class Probe(BaseModel):
    """One image and question that every pass is checked on."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    image: np.ndarray  # uint8 [H,W,3]
    question: str = Field(max_length=4096)
    answer: str | None = None  # the label, where there is one


@dataclass(frozen=True)
class ProbeInput:
    """One probe, ready to feed."""

    pixel_values: np.ndarray  # float32 [1,3,H,W]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    truth: str | None = None  # the class or answer, where it is known
    said: tuple[int, ...] = ()  # the same as tokens, of a VLM; () also where there is no telling
