"""Engines as the parts of a model, for the one token loop of `compiler/generate.py`.

    prefill --key_i, value_i--> cache (the past_ inputs of decode) <--one row a step-- decode

Keys and values never leave the device: prefill's are copied into the buffers that decode reads, and
the row of every step is copied from decode's output into the same buffers. Only token embeddings,
masks, logits and chosen places cross over.
"""

from __future__ import annotations

from typing import Any, Mapping

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.generate import Cache
from edgevlm.runtimes.tensorrt.on_device.device_array import DeviceArray
from edgevlm.runtimes.tensorrt.on_device.engine import Engine, Fed

__all__ = ["EngineParts"]

#: a step is short, so that launching its kernels one by one would take longer than they do
AS_GRAPH = ("decode",)


class EngineParts:
    """Opened engines by role. `notes`: what did not go as planned, for the report."""

    def __init__(self, engines: Mapping[str, Engine], graphs: bool = True) -> None:
        self.engines = dict(engines)
        self.notes: list[str] = []
        self._to_capture = {role for role in AS_GRAPH if graphs and role in self.engines}

    def call(self, role: str, feeds: Mapping[str, Fed]) -> dict[str, Any]:
        """Outputs by name: on the device for keys and values, on the host for all others.

        What is on the device holds until the part is called again. Raises EV304 for feeds that are
        not those of the engine, EV307 if it fails.
        """
        engine = self.engines[role]
        if set(feeds) != set(engine.inputs):
            raise JobFault(
                "EV304",
                f"part {role} is not what the plan says",
                f"its engine takes {', '.join(engine.inputs)}, not {', '.join(feeds)}",
                "copy the bundle again; it was changed after it was compiled",
            )
        for name, value in feeds.items():
            engine.put(name, value)
        if role in self._to_capture:
            self._to_capture.discard(role)
            failed = engine.capture()
            if failed:
                self.notes.append(f"{role} runs without a CUDA graph: {failed}")
        engine.run()
        return {
            name: engine.ports[name] if name.startswith(("key_", "value_")) else engine.get(name)
            for name in engine.outputs
        }

    def cache(self, contract: Any, prefill: Mapping[str, Any]) -> Cache:
        """The cache of `generate`, kept in the buffers that decode reads."""
        return _DeviceCache(self.engines["decode"], contract, prefill)

    def close(self) -> None:
        for engine in self.engines.values():
            engine.close()


class _DeviceCache(Cache):
    """There is one a decode engine: a new one takes the buffers of the last one over."""

    def __init__(self, decode: Engine, contract: Any, prefill: Mapping[str, Any]) -> None:
        self.decode = decode
        super().__init__(contract, prefill)

    def hold(self, name: str, shape: tuple[int, ...], first: DeviceArray) -> DeviceArray:
        held = self.decode.ports[f"past_{name}"]  # its size was checked when it was opened
        held.clear()
        held.set_rows(0, first)
        return held

    def put(self, held: DeviceArray, at: int, row: DeviceArray) -> None:
        held.set_rows(at, row)
