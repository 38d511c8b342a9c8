"""Every runtime there is. A heavy vendor package is imported when the runtime is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edgevlm.compiler.errors import UsageFault

if TYPE_CHECKING:  # what a runtime is made of loads onnx; its name alone does not
    from edgevlm.runtimes.base import Runtime

__all__ = ["RUNTIMES", "find_runtime"]

#: name in a device file -> (module, class)
RUNTIMES: dict[str, tuple[str, str]] = {
    "ort": ("edgevlm.runtimes.ort.runtime", "OrtRuntime"),
    "tensorrt": ("edgevlm.runtimes.tensorrt.runtime", "TensorRtRuntime"),
    "coreai": ("edgevlm.runtimes.coreai.runtime", "CoreAiRuntime"),
    "coreml": ("edgevlm.runtimes.coreml.runtime", "CoremlRuntime"),
    "ethos": ("edgevlm.runtimes.executorch.ethos.runtime", "EthosRuntime"),
    "executorch": ("edgevlm.runtimes.executorch.runtime", "ExecutorchRuntime"),
    "openvino": ("edgevlm.runtimes.openvino.runtime", "OpenVinoRuntime"),
}


def find_runtime(name: str) -> Runtime:
    """Raises EV302 (UsageFault) for a runtime this version does not have."""
    if name not in RUNTIMES:
        raise UsageFault(
            "EV302",
            f"runtime {name!r}",
            f"this edgevlm lowers to {', '.join(RUNTIMES)} only",
            "--target cpu; `edgevlm devices list` shows what it compiles for",
        )
    module, cls = RUNTIMES[name]
    return getattr(importlib.import_module(module), cls)()
