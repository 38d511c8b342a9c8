"""One engine, opened: its buffers on the device, runs, a CUDA graph, times and layers."""

from __future__ import annotations

from typing import Any, Sequence, Union

import numpy as np

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.api import Api
from edgevlm.runtimes.tensorrt.on_device.cudart import Cuda, CudaError
from edgevlm.runtimes.tensorrt.on_device.device_array import DeviceArray
from edgevlm.runtimes.tensorrt.on_device.plan_contract import TYPES, PlanPort
from edgevlm.runtimes.tensorrt.on_device.unbroken import Unbroken

__all__ = ["Engine", "Fed"]

Fed = Union[np.ndarray, DeviceArray]
WARM_UP = 3  # runs that are not timed: clocks rise, lazily loaded kernels arrive


class Engine:
    """Inputs and outputs stay where they are for the life of an engine, as a graph needs them to.

    A run reads what was last `put`; outputs are those of the last run.
    """

    def __init__(self, api: Api, cuda: Cuda, stream: int, role: str, plan: Any) -> None:
        """plan: the serialised engine. Raises EV307 for one that TensorRT does not take."""
        self.api, self.cuda, self.stream, self.role = api, cuda, stream, role
        self.log = api.log()
        with Unbroken():
            self.runtime = api.trt.Runtime(self.log)
            self.engine = self.runtime.deserialize_cuda_engine(plan)
            self.context = self.engine and self.engine.create_execution_context()
        if not self.context:
            raise self._failed("the engine does not load")
        self.graph = 0
        self.ports: dict[str, DeviceArray] = {}
        self.inputs: list[str] = []
        try:
            self._bind()
        except BaseException:
            self.close()
            raise

    def _bind(self) -> None:
        trt, engine = self.api.trt, self.engine
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            shape = tuple(engine.get_tensor_shape(name))
            if -1 in shape or engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise self._failed(f"{name} has an open size, or is wanted in host memory")
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            pointer = self.cuda.malloc(size)
            self.ports[name] = DeviceArray(self.cuda, self.stream, pointer, shape, dtype)
            self.context.set_tensor_address(name, pointer)
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self.inputs.append(name)

    @property
    def outputs(self) -> list[str]:
        return [name for name in self.ports if name not in self.inputs]

    def check_ports(self, inputs: Sequence[PlanPort], outputs: Sequence[PlanPort]) -> None:
        """Raises EV304 where the plan says otherwise: whoever copies relies on these sizes."""
        for ports, names in ((inputs, self.inputs), (outputs, self.outputs)):
            wanted = {p.name: (p.shape, TYPES[p.dtype]) for p in ports}
            found = {n: (self.ports[n].shape, self.ports[n].dtype.name) for n in names}
            unlike = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
            if unlike:
                raise JobFault(
                    "EV304",
                    f"part {self.role} is not what the plan says",
                    f"{unlike[0]} is {found.get(unlike[0])}, wanted {wanted.get(unlike[0])}",
                    "copy the bundle again; it was changed after it was compiled",
                )

    def put(self, name: str, value: Fed) -> None:
        """One input. What lies in the engine's own buffer already is not copied."""
        port = self.ports[name]
        if tuple(value.shape) != port.shape:
            raise self._failed(f"{name} is {tuple(value.shape)}, wanted {port.shape}")
        if not isinstance(value, DeviceArray):
            # kept until the next one, as the copy may still be under way when this returns
            port.source = np.ascontiguousarray(value, port.dtype)
            self.cuda.to_device(port.pointer, port.source, self.stream)
        elif value.dtype != port.dtype:
            raise self._failed(f"{name} is {value.dtype} on the device, wanted {port.dtype}")
        elif value.pointer != port.pointer:
            self.cuda.on_device(port.pointer, value.pointer, port.nbytes, self.stream)

    def run(self) -> None:
        """Put on the stream; `wait` on it before anything is read by other means than `get`."""
        if self.graph:
            self.cuda.launch(self.graph, self.stream)
        else:
            self._enqueue(self.context)

    def get(self, name: str) -> np.ndarray:
        """An output, on the host."""
        return np.array(self.ports[name])

    def capture(self) -> str | None:
        """From now on run as a CUDA graph. Returns why not, where that fails; runs go on without.

        TensorRT wants one run before: it sets up what may not be set up during a capture.
        """
        self._enqueue(self.context)
        self.cuda.wait(self.stream)
        try:
            self.cuda.begin_capture(self.stream)
            self._enqueue(self.context)
            self.graph = self.cuda.end_capture(self.stream)
        except (CudaError, JobFault) as error:
            self.cuda.abandon_capture(self.stream)
            return str(error)[:200]
        return None

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self.stream):
            raise self._failed("it stopped while it ran")

    def time_ms(self, runs: int) -> list[float]:
        """Milliseconds on the GPU of each run, by events, with what was last put."""
        start, end = self.cuda.event(), self.cuda.event()
        taken = []
        try:
            for _ in range(WARM_UP + runs):
                self.cuda.record(start, self.stream)
                self.run()
                self.cuda.record(end, self.stream)
                taken.append(self.cuda.elapsed_ms(start, end))
        finally:
            self.cuda.end_event(start)
            self.cuda.end_event(end)
        return taken[WARM_UP:]

    def layer_ms(self, runs: int) -> dict[str, float]:
        """Mean milliseconds a layer. Each is waited for, so that their sum is more than a run."""
        profiler = _profiler(self.api.trt)
        context = self.engine.create_execution_context()  # a graph would not report to a profiler
        if not context:
            raise self._failed("there is no room to run it a second time, for its layers")
        for name, port in self.ports.items():
            context.set_tensor_address(name, port.pointer)
        self._enqueue(context)
        self.cuda.wait(self.stream)
        context.profiler = profiler
        for _ in range(runs):
            with Unbroken():  # the profiler is called back
                self._enqueue(context)
                self.cuda.wait(self.stream)
        return {name: total / runs for name, total in profiler.total.items()}

    def information(self) -> str:
        """What the inspector says of the layers, as JSON text."""
        inspector = self.engine.create_engine_inspector()
        return str(inspector.get_engine_information(self.api.trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Give the memory back; may be called twice."""
        if self.graph:
            self.cuda.end_graph(self.graph)
        self.graph = 0
        self.context = None  # before the engine that it belongs to
        self.engine = None
        while self.ports:
            self.cuda.free(self.ports.popitem()[1].pointer)

    def _failed(self, what: str) -> JobFault:
        errors = [text for severity, text in self.log.lines if self.api.is_error(severity)]
        return JobFault(
            "EV307",
            f"part {self.role}: {what}",
            errors[-1][-300:] if errors else f"{self.api.name} {self.api.version} gave no reason",
            "build the engines anew: python3 build_on_device.py --rebuild",
        )


def _profiler(trt: Any) -> Any:
    """A subclass of the module's own IProfiler, which TensorRT insists on."""

    class Profiler(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.total: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.total[layer_name] = self.total.get(layer_name, 0.0) + ms

    return Profiler()
