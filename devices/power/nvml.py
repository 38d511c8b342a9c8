"""Energy of an NVIDIA GPU of a PC or server, counted by its driver (NVML).

`nvmlDeviceGetTotalEnergyConsumption` gives mJ since the driver was loaded, on Volta and later; the
package is nvidia-ml-py. A Jetson has no such counter: ina3221.py. "auto" never takes it: a model
that runs on the CPU is not paid for by the GPU's board.
"""

from __future__ import annotations

import importlib
import time
from types import ModuleType

from edgevlm.devices.power.base import Energy, unreadable

__all__ = ["Nvml"]

NOTE = "the GPU's board; the host's CPU and memory and its fans are not in this figure"


class Nvml:
    """The first GPU, or the one of a number."""

    name = "nvml"

    def __init__(self, index: int = 0, module: ModuleType | None = None) -> None:
        self._index, self._module = index, module
        self._began: tuple[float, int] | None = None

    def available(self) -> str | None:
        try:
            self._millijoules()
        except ModuleNotFoundError:
            return "the package nvidia-ml-py is not here: pip install nvidia-ml-py"
        except Exception as error:  # NVML's own classes, which the module makes as it is loaded
            return f"no energy counter of an NVIDIA GPU can be read ({error})"
        return None

    def start(self) -> None:
        """Open a window. Raises JobFault EV402 when the counter cannot be read."""
        if reason := self.available():
            raise unreadable(self.name, reason)
        if self._began:
            raise RuntimeError("start() called twice without stop()")
        self._began = time.monotonic(), self._millijoules()

    def stop(self) -> Energy:
        """Close the window. Raises JobFault EV402 when the counter could not be read to the end."""
        if not self._began:
            raise RuntimeError("stop() called without start()")
        (began, before), self._began = self._began, None
        try:
            after = self._millijoules()
        except Exception as error:
            raise unreadable(self.name, f"it could not be read to the end ({error})") from None
        seconds = time.monotonic() - began
        if after < before:
            raise unreadable(self.name, "the counter began anew: the driver was loaded again")
        return Energy((after - before) / 1e3, seconds, "measured-host", self.name, NOTE)

    def _millijoules(self) -> int:
        nvml = self._module or importlib.import_module("pynvml")
        nvml.nvmlInit()
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(self._index)
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        finally:
            nvml.nvmlShutdown()
