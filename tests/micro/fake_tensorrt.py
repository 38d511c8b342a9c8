"""A stand-in for the module `tensorrt`: its engine is the ONNX file, run by ONNX Runtime.

It has the calls that edgevlm makes and no others, and works on the pointers that it was given,
which are those of fake_cudart.c. It computes what the graph says, so a loop over it must give the
very tokens that the reference gives. Types are not checked and nothing is fused: that is what the
real builder of TensorRT-RTX is for.

    FAKE_TENSORRT_VERSION    10.3.0, or what a test wants to have now
    FAKE_TENSORRT_REFUSE     an op that the parser does not take
    FAKE_TENSORRT_CACHE      how a foreign timing cache is refused: none, false; or always
    FAKE_TENSORRT_STEPS      steps of 10 ms that a build has; its monitor is asked after each
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import time

import numpy as np

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "10.3.0")
MAGIC = b"FAKE-ENGINE "
TIMES = f"TIMES OF {__version__}: ".encode()  # what a timing cache of this one begins with
cuda = ctypes.CDLL(os.environ["EDGEVLM_CUDART"])
WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
cuda.fake_graph_add.argtypes = (ctypes.c_void_p, WORK, ctypes.c_void_p)


def _enum(name, *members):
    return enum.IntEnum(name, members, start=0)


NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", "EXPLICIT", "STRONGLY_TYPED")
BuilderFlag = _enum("BuilderFlag", "FP16", "TF32")
ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "NONE", "DETAILED")
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
TensorLocation = _enum("TensorLocation", "DEVICE", "HOST")
TensorIOMode = _enum("TensorIOMode", "NONE", "INPUT", "OUTPUT")
LayerInformationFormat = _enum("LayerInformationFormat", "ONELINE", "JSON")
LayerType = _enum("LayerType", "CONVOLUTION", "MATRIX_MULTIPLY", "OTHER")
NUMPY = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int8)": np.int8, "tensor(bool)": np.bool_,
}  # fmt: skip
TOLD = {"float32": "FP32", "float16": "FP16", "int64": "Int64", "int8": "Int8", "bool": "Bool"}


def nptype(dtype):
    return dtype


class ILogger:
    Severity = _enum("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity


class IProfiler:
    pass


class IProgressMonitor:
    pass


class _Layer:
    def __init__(self, node):
        self.name, self.metadata = node.name, f"[ONNX Layer: {node.name}]"
        kinds = {"Conv": LayerType.CONVOLUTION, "MatMul": LayerType.MATRIX_MULTIPLY}
        self.type = kinds.get(node.op_type, LayerType.OTHER)


class _Network:
    model = None

    @property
    def num_layers(self):
        return len(self.model.graph.node)

    def get_layer(self, i):
        return _Layer(self.model.graph.node[i])


class _Error:
    def __init__(self, node, text):
        self.node, self.text = node, text

    def node_name(self):
        return self.node.name

    def node_operator(self):
        return self.node.op_type

    def desc(self):
        return self.text


class OnnxParser:
    def __init__(self, network, log):
        self.network, self.errors = network, []

    def parse_from_file(self, path):
        import onnx

        self.network.model = onnx.load(path)
        refused = os.environ.get("FAKE_TENSORRT_REFUSE")
        nodes = [n for n in self.network.model.graph.node if n.op_type == refused]
        self.errors = [_Error(node, f"{refused} is not for this one") for node in nodes]
        return not nodes

    @property
    def num_errors(self):
        return len(self.errors)

    def get_error(self, i):
        return self.errors[i]


class _TimingCache:
    def __init__(self, data, refused):
        self.data, self.refused = data, refused

    def serialize(self):
        return self.data + b"+"


class _Config:
    cache = progress_monitor = None
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY

    def __init__(self):
        self.pools = {}
        self.flags = {int(flag) for flag in BuilderFlag if flag.name == "TF32"}  # set unasked

    def clear_flag(self, flag):
        self.flags.discard(int(flag))

    def set_memory_pool_limit(self, pool, size):
        self.pools[pool] = size

    def create_timing_cache(self, data):
        foreign = not data.startswith(TIMES) and data != b""
        refused = os.environ.get("FAKE_TENSORRT_CACHE")
        if (foreign and refused == "none") or refused == "always":
            return None
        return _TimingCache(data or TIMES, foreign and refused == "false")

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache.refused:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


class Builder:
    def __init__(self, log):
        self.log = log

    def create_network(self, flags):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return _Network()

    def create_builder_config(self):
        return _Config()

    def build_serialized_network(self, network, config):
        head = {"version": __version__, "verbosity": int(config.profiling_verbosity)}
        head["flags"] = sorted(config.flags)
        self.log.log(ILogger.WARNING, "this is a stand-in")
        for step in range(int(os.environ.get("FAKE_TENSORRT_STEPS", 0))):
            time.sleep(0.01)
            if config.progress_monitor and not config.progress_monitor.step_complete("all", step):
                self.log.log(ILogger.ERROR, "the build was cancelled")
                return None
        return MAGIC + json.dumps(head).encode() + b"\n" + network.model.SerializeToString()


class Runtime:
    def __init__(self, log):
        self.log = log

    def deserialize_cuda_engine(self, plan):
        head, _, model = bytes(plan).partition(b"\n")
        if not head.startswith(MAGIC):
            self.log.log(ILogger.ERROR, "Magic tag does not match")
            return None
        told = json.loads(head[len(MAGIC) :])
        if told["version"] != __version__:
            self.log.log(ILogger.ERROR, f"built by {told['version']}")
            return None
        return _Engine(model, told["verbosity"], self.log)


class _Engine:
    def __init__(self, model, verbosity, log):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.model, self.verbosity, self.log = model, verbosity, log
        self.ports = {p.name: p for p in (*self.session.get_inputs(), *self.session.get_outputs())}

    @property
    def num_io_tensors(self):
        return len(self.ports)

    def get_tensor_name(self, i):
        return list(self.ports)[i]

    def get_tensor_shape(self, name):
        return tuple(self.ports[name].shape)

    def get_tensor_dtype(self, name):
        return NUMPY[self.ports[name].type]

    def get_tensor_location(self, name):
        return TensorLocation.DEVICE

    def get_tensor_mode(self, name):
        inputs = [p.name for p in self.session.get_inputs()]
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def create_execution_context(self):
        return _Context(self)

    def create_engine_inspector(self):
        return _Inspector(self)


class _Context:
    profiler = None

    def __init__(self, engine):
        self.engine, self.addresses = engine, {}
        self.work = WORK(lambda _: self._run())  # kept: a graph calls it later

    def set_tensor_address(self, name, pointer):
        self.addresses[name] = pointer
        return True

    def execute_async_v3(self, stream):
        if set(self.addresses) != set(self.engine.ports):
            self.engine.log.log(ILogger.ERROR, "an address is missing")
            return False
        if not cuda.fake_graph_add(stream, self.work, None):
            self._run()
        return True

    def _view(self, name):
        shape, dtype = (
            self.engine.get_tensor_shape(name),
            np.dtype(self.engine.get_tensor_dtype(name)),
        )
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)

    def _run(self):
        start = time.perf_counter()
        session = self.engine.session
        feeds = {p.name: self._view(p.name).copy() for p in session.get_inputs()}
        names = [p.name for p in session.get_outputs()]
        for name, value in zip(names, session.run(names, feeds), strict=True):
            self._view(name)[...] = value
        if self.profiler is not None:
            self.profiler.report_layer_time("all of it", (time.perf_counter() - start) * 1e3)


class _Inspector:
    """A layer for every node, as plain TensorRT writes it; types are those of the first input."""

    def __init__(self, engine):
        self.engine = engine

    def get_engine_information(self, form):
        import onnx

        assert form == LayerInformationFormat.JSON
        nodes = onnx.load_from_string(self.engine.model).graph.node
        if self.engine.verbosity != ProfilingVerbosity.DETAILED:
            return json.dumps({"Layers": [node.name for node in nodes]})
        kind = TOLD[np.dtype(NUMPY[self.engine.session.get_inputs()[0].type]).name]
        tensor = {"Name": "?", "Dimensions": [2, 2], "Format/Datatype": f"Row major linear {kind}"}
        layers = [
            {
                "Name": node.name,
                "LayerType": "gemm" if node.op_type == "MatMul" else node.op_type,
                "Inputs": [tensor, tensor],
                "Outputs": [tensor],
                "TacticName": "",
                "Metadata": f"[ONNX Layer: {node.name}]",
            }
            for node in nodes
        ]
        return json.dumps({"Layers": layers})
