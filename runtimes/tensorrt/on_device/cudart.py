"""The CUDA runtime by ctypes: memory, streams, events, graphs. No package of Python is needed.

Pointers, streams, events and graphs are plain integers here. Every return code is checked.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_ulonglong, c_void_p
from typing import Any

import numpy as np

from edgevlm.compiler.errors import JobFault

__all__ = ["Cuda", "CudaError", "find_cuda"]

#: names by which JetPack 7, 6 and 5 have it, and the places where the linker may not look
NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib")
TO_DEVICE, TO_HOST, ON_DEVICE = 1, 2, 3  # cudaMemcpyKind
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
THREAD_LOCAL = 1  # cudaStreamCaptureMode: other threads may go on allocating
#: cudaDevAttrComputeCapability..., cudaDevAttrIntegrated; cudaDeviceProp changes with each release
MAJOR, MINOR, INTEGRATED = 75, 76, 18

#: what is called, and of what; pointers as c_void_p, or ctypes would cut them to 32 bits
CALLS = {
    "cudaMalloc": (POINTER(c_void_p), c_size_t),
    "cudaFree": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaMemcpy2DAsync": (c_void_p, c_size_t, c_void_p, *[c_size_t] * 3, c_int, c_void_p),
    "cudaMemsetAsync": (c_void_p, c_int, c_size_t, c_void_p),
    "cudaStreamCreate": (POINTER(c_void_p),),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaEventCreate": (POINTER(c_void_p),),
    "cudaEventDestroy": (c_void_p,),
    "cudaEventRecord": (c_void_p, c_void_p),
    "cudaEventSynchronize": (c_void_p,),
    "cudaEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    # cudaGraphInstantiate has five arguments in CUDA 11 and three in 12; this one is alike in all
    "cudaGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaRuntimeGetVersion": (POINTER(c_int),),
    "cudaGetLastError": (),
}


class CudaError(RuntimeError):
    """One call that CUDA refused. `code` is its cudaError."""

    def __init__(self, call: str, code: int, text: str) -> None:
        self.call, self.code = call, code
        super().__init__(f"{call}: {text} (cudaError {code})")

    @property
    def out_of_memory(self) -> bool:
        return self.code == OUT_OF_MEMORY


class Cuda:
    """The loaded library. `moved` counts bytes by direction, to show what a loop copies."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.moved = {"to_device": 0, "to_host": 0, "on_device": 0}
        for name, arguments in CALLS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, c_int
        library.cudaGetErrorString.argtypes = (c_int,)
        library.cudaGetErrorString.restype = c_char_p

    def _do(self, name: str, *arguments: Any) -> None:
        code = getattr(self.library, name)(*arguments)
        if code:
            text = self.library.cudaGetErrorString(code)
            raise CudaError(name, code, (text or b"?").decode(errors="replace"))

    def _made(self, name: str, *arguments: Any) -> int:
        """A call that gives a handle through its first argument."""
        handle = c_void_p()
        self._do(name, byref(handle), *arguments)
        return int(handle.value or 0)

    def malloc(self, size: int) -> int:
        """Bytes on the device; their contents are not set."""
        return self._made("cudaMalloc", max(size, 1))

    def free(self, pointer: int) -> None:
        self._do("cudaFree", pointer)

    def to_device(self, pointer: int, array: np.ndarray, stream: int) -> None:
        """A C-contiguous array; it must live until the stream has caught up."""
        self.moved["to_device"] += array.nbytes
        source = array.ctypes.data
        self._do("cudaMemcpyAsync", pointer, source, array.nbytes, TO_DEVICE, stream)

    def to_host(self, array: np.ndarray, pointer: int, stream: int) -> None:
        """Into a C-contiguous array, which is filled when the stream has caught up."""
        self.moved["to_host"] += array.nbytes
        self._do("cudaMemcpyAsync", array.ctypes.data, pointer, array.nbytes, TO_HOST, stream)

    def on_device(self, target: int, source: int, size: int, stream: int) -> None:
        self.moved["on_device"] += size
        self._do("cudaMemcpyAsync", target, source, size, ON_DEVICE, stream)

    def rows(
        self, target: int, stride: int, source: int, source_stride: int, width: int, rows: int,
        stream: int,
    ) -> None:  # fmt: skip
        """`rows` stretches of `width` bytes on the device, each a stride behind the last."""
        self.moved["on_device"] += width * rows
        places = (target, stride, source, source_stride)
        self._do("cudaMemcpy2DAsync", *places, width, rows, ON_DEVICE, stream)

    def clear(self, pointer: int, size: int, stream: int) -> None:
        self._do("cudaMemsetAsync", pointer, 0, size, stream)

    def stream(self) -> int:
        return self._made("cudaStreamCreate")

    def end_stream(self, stream: int) -> None:
        self._do("cudaStreamDestroy", stream)

    def wait(self, stream: int) -> None:
        """Until everything on the stream is done."""
        self._do("cudaStreamSynchronize", stream)

    def event(self) -> int:
        return self._made("cudaEventCreate")

    def end_event(self, event: int) -> None:
        self._do("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._do("cudaEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two recorded events; waits for the second."""
        self._do("cudaEventSynchronize", end)
        value = c_float()
        self._do("cudaEventElapsedTime", byref(value), start, end)
        return float(value.value)

    def begin_capture(self, stream: int) -> None:
        self._do("cudaStreamBeginCapture", stream, THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """What was put on the stream since, as a graph that can be launched."""
        graph = c_void_p()
        self._do("cudaStreamEndCapture", stream, byref(graph))
        try:
            return self._made("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._do("cudaGraphDestroy", graph)

    def abandon_capture(self, stream: int) -> None:
        """Out of a capture that failed, so that the stream can be used again."""
        graph = c_void_p()
        if not self.library.cudaStreamEndCapture(stream, byref(graph)) and graph.value:
            self.library.cudaGraphDestroy(graph)
        self.library.cudaGetLastError()  # an error that is not taken is told by the next call

    def launch(self, graph: int, stream: int) -> None:
        self._do("cudaGraphLaunch", graph, stream)

    def end_graph(self, graph: int) -> None:
        self._do("cudaGraphExecDestroy", graph)

    def _number(self, name: str, *arguments: Any) -> int:
        value = c_int()
        self._do(name, byref(value), *arguments)
        return int(value.value)

    @property
    def compute_capability(self) -> int:
        """Of the first GPU, times ten: 87 is Orin."""
        major, minor = (
            self._number("cudaDeviceGetAttribute", which, 0) for which in (MAJOR, MINOR)
        )
        return 10 * major + minor

    @property
    def integrated(self) -> bool:
        """Whether the first GPU has no memory of its own, but shares the processor's."""
        return bool(self._number("cudaDeviceGetAttribute", INTEGRATED, 0))

    @property
    def version(self) -> int:
        """Of the runtime: 12060 is CUDA 12.6."""
        return self._number("cudaRuntimeGetVersion")

    def memory(self) -> tuple[int, int]:
        """Bytes free and in all. Of an integrated GPU, pages that cache files are not free."""
        free, total = c_size_t(), c_size_t()
        self._do("cudaMemGetInfo", byref(free), byref(total))
        return int(free.value), int(total.value)


def find_cuda() -> Cuda:
    """libcudart: $EDGEVLM_CUDART, what the linker finds, or JetPack's folders. Raises EV355."""
    named = os.environ.get("EDGEVLM_CUDART")
    found = ctypes.util.find_library("cudart")
    places = [named] if named else [*NAMES, *([found] if found else [])]
    if not named:
        places += [f"{folder}/{name}" for folder in FOLDERS for name in NAMES]
    why = "not found"
    for place in places:
        try:
            return Cuda(ctypes.CDLL(place))
        except (OSError, AttributeError) as error:  # not there; or too old, and lacks a call
            why = str(error)[:200]
    raise JobFault(
        "EV355",
        f"the CUDA runtime ({named or 'libcudart.so'}) cannot be loaded",
        why,
        "sudo apt-get install nvidia-jetpack, or EDGEVLM_CUDART=/path/to/libcudart.so",
    )
