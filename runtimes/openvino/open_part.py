"""One artifact, compiled by OpenVINO in this process, and how it is called.

Properties that are not left to chance: products and sums in float32 (the plugin takes bfloat16 by
itself where a CPU multiplies it fast), activations rounded to int8 only where the graph says so
(left alone, the plugin rounds them for every product with int8 weights, groups of 32: 36 to 50 dB
on the bundled models), one stream, threads where the system puts them, and no cache on disk.

Outputs are copied: a request writes them where those of the last call were. Inputs are copied into
memory of the request, unless they are so large that wrapping them costs less.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgevlm.compiler.artifact_checks import read_settings, unusable
from edgevlm.runtimes.openvino.package import engine

__all__ = ["OpenPart", "OpenVinoSettings", "compile_part", "reason"]

#: bytes of an input from which wrapping the caller's memory (3 us) is cheaper than a copy
WRAPPED_BYTES = 256 * 1024


class OpenVinoSettings(BaseModel):
    """`settings` of an artifact in the manifest, which may be hostile."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    threads: int = Field(0, ge=0, le=256, description="of one part; 0: all this process may use")
    group: int = Field(0, ge=0, le=4096, description="inputs rounded together at run time; 0: none")


def compile_part(path: Path, settings: dict[str, Any], counted: bool = False) -> Any:
    """An `openvino.CompiledModel`. Raises EV322 (settings), EV302, EV304 with OpenVINO's reason.

    counted: it counts the time of every node.
    """
    asked = read_settings(OpenVinoSettings, path, settings)
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": asked.threads or len(os.sched_getaffinity(0)),
        "ENABLE_CPU_PINNING": False,  # else every process and every part takes the same cores
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": asked.group,
        "PERF_COUNT": counted,
    }
    core, reader = engine()
    try:
        return core.compile_model(reader.convert(reader.load(str(path))), "CPU", properties)
    except Exception as error:
        raise unusable(path, reason(error)) from error


class OpenPart:
    """A compiled part with memory of its own; threads take turns."""

    def __init__(self, compiled: Any) -> None:
        from openvino import Tensor

        self.request = compiled.create_infer_request()
        self.inputs = [self.request.get_input_tensor(i).data for i in range(len(compiled.inputs))]
        self.outputs = []
        for i, port in enumerate(compiled.outputs):
            tensor = Tensor(port.get_element_type(), port.get_shape())
            self.request.set_output_tensor(i, tensor)
            self.outputs.append(tensor.data)
        self.wrapped: dict[int, np.ndarray] = {}
        self.lock = threading.Lock()

    def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Outputs in the graph's order. Raises ValueError for inputs of other shapes or types."""
        with self.lock:
            for i, (own, array) in enumerate(zip(self.inputs, inputs, strict=True)):
                if array.shape != own.shape or array.dtype != own.dtype:
                    raise ValueError(
                        f"input {i} is {array.dtype} {list(array.shape)}, "
                        f"the part takes {own.dtype} {list(own.shape)}"
                    )
                if own.nbytes < WRAPPED_BYTES:
                    np.copyto(own, array)
                elif array is not self.wrapped.get(i):  # a KV cache is one array at every step
                    self._wrap(i, array)
            self.request.infer(share_outputs=True)
            return [value.copy() for value in self.outputs]

    def _wrap(self, i: int, array: np.ndarray) -> None:
        from openvino import Tensor

        array = np.require(array, requirements="CW")
        self.request.set_input_tensor(i, Tensor(array, shared_memory=True))
        self.wrapped[i] = array  # OpenVINO reads it and does not own it


def reason(error: Exception) -> str:
    """OpenVINO's message without the places in its source where it was passed on."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(kept or lines or [type(error).__name__])[:300]
