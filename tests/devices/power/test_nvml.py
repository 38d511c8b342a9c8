"""NVML's counter, on a stand-in for its module: no figure here comes from a GPU."""

from __future__ import annotations

import importlib.util
import types

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.power import METERS, find_meter
from edgevlm.devices.power.base import window
from edgevlm.devices.power.nvml import Nvml


def module(*millijoules):
    told = iter(millijoules)

    def read(handle):
        assert handle == "gpu 1"
        value = next(told)
        if isinstance(value, Exception):
            raise value
        return value

    made = types.ModuleType("pynvml")
    made.open = 0

    def count(by):
        made.open += by

    made.nvmlInit, made.nvmlShutdown = lambda: count(1), lambda: count(-1)
    made.nvmlDeviceGetHandleByIndex = lambda index: f"gpu {index}"
    made.nvmlDeviceGetTotalEnergyConsumption = read
    return made


def test_a_window_is_the_difference_of_two_readings():
    nvml = module(1000, 1000, 43500)
    with window(Nvml(1, nvml)) as opened:
        pass
    assert opened.energy.joules == 42.5 and opened.energy.meter == "nvml"
    assert "GPU's board" in opened.energy.note and nvml.open == 0


@pytest.mark.parametrize(
    ("last", "why"), [(RuntimeError("GPU is lost"), "GPU is lost"), (10, "began anew")]
)
def test_a_counter_that_is_lost_gives_no_figure(last, why):
    meter = Nvml(1, module(1000, 1000, last))
    meter.start()
    with pytest.raises(JobFault, match="EV402") as caught:
        meter.stop()
    assert why in caught.value.why


def test_a_gpu_without_the_counter_says_so():
    reason = Nvml(1, module(RuntimeError("Not Supported"))).available()
    assert "Not Supported" in reason
    if importlib.util.find_spec("pynvml") is None:
        assert "pip install nvidia-ml-py" in Nvml().available()


def test_auto_never_takes_a_gpu(monkeypatch):
    """What runs on the CPU is not paid for by the GPU's board."""
    for name in METERS:
        monkeypatch.setitem(METERS, name, lambda: types.SimpleNamespace(available=lambda: "no"))
    monkeypatch.setitem(METERS, "nvml", lambda: types.SimpleNamespace(available=lambda: None))
    assert find_meter("auto")[0] is None and find_meter("nvml")[0] is not None
