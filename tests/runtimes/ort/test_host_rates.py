"""The rates of this machine: of the right size, measured once, and of what runs in integers."""

from __future__ import annotations

import json
from pathlib import Path

from edgevlm.runtimes.ort import host_rates as module
from edgevlm.runtimes.ort.host_rates import host_rates
from edgevlm.runtimes.ort.runtime import open_part


def test_rates_are_those_of_a_machine_and_labelled():
    rates = host_rates(1)
    assert 1e9 < rates.ops["fp32"] < 1e13 and 1e9 < rates.ops["int8"] < 1e14
    assert 1e8 < rates.bandwidth < 1e12 and 1e-8 < rates.launch < 1e-3
    assert not rates.partial and rates.width == 4
    assert {fact.source for fact in rates.used} == {"this machine"}


def test_they_are_measured_once(monkeypatch):
    first = host_rates(1)
    monkeypatch.setattr(module, "_seconds", lambda *_: 1 / 0)
    assert host_rates(1) is first


def test_the_integer_rate_is_of_an_integer_product(tmp_path, monkeypatch):
    """What is timed as int8 runs as such: ONNX Runtime fuses it into one integer kernel."""
    seen = []

    def watched(path, settings):
        session = open_part(path, settings, profile_to=str(tmp_path / "ops"))
        seen.append(session)
        return session

    monkeypatch.setattr(module, "open_part", watched)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    module._seconds(module._int8, (module.ROWS, module.WIDTH), 1)
    events = json.loads(Path(seen[0].end_profiling()).read_text())
    ran = {event["args"].get("op_name") for event in events if "args" in event}
    assert "MatMulIntegerToFloat" in ran and "MatMul" not in ran
