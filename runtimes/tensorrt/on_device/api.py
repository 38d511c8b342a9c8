"""The one place that knows how TensorRT 10.3, TensorRT 11 and TensorRT-RTX differ.

They share names and calls. What differs: who says that networks are strongly typed, whether there
is a timing cache, and whether an engine can be built for a GPU that is not there (RTX only).
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from edgevlm.compiler.errors import JobFault

__all__ = ["LIBRARIES", "Api", "find_api", "numbers_of"]

#: in order of preference; the last one is what is importable where the meta package is missing
LIBRARIES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")


class Api:
    """A TensorRT module, its version, and one call for everything that is not alike in all."""

    def __init__(self, module: Any) -> None:
        self.trt = module
        self.name = str(module.__name__)
        self.version = str(module.__version__)
        self.is_rtx = "rtx" in self.name

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, to compare."""
        return numbers_of(self.version)

    @property
    def capabilities(self) -> list[str]:
        """GPUs that can be built for without having one: SM86, SM89, ...; none but in RTX."""
        known = getattr(self.trt, "ComputeCapability", None)
        names = getattr(known, "__members__", {})
        return [name for name in names if name.startswith("SM")]

    def log(self, loud: bool = False) -> Any:
        """A logger that keeps (severity, text) in `lines`; `loud` prints warnings as they come.

        Of VERBOSE messages only listings of layers are kept.
        """
        return _log_class(self.trt)(loud)

    def network(self, builder: Any) -> Any:
        """An empty, strongly typed network: types are those of the graph, none is chosen.

        TensorRT 11 knows no other kind, and may not have the flag any more.
        """
        flags = getattr(self.trt.NetworkDefinitionCreationFlag, "__members__", {})
        flag = flags.get("STRONGLY_TYPED")
        return builder.create_network(0 if flag is None else 1 << int(flag))

    def keep_float32(self, config: Any) -> None:
        """Products that the host kept in float32 stay so: by default TensorRT rounds to TF32.

        That has the 10 bits of float16, which the host found to be too few there.
        """
        flag = getattr(getattr(self.trt, "BuilderFlag", None), "TF32", None)
        if flag is not None:
            config.clear_flag(flag)

    def has_timing_cache(self, config: Any) -> bool:
        """RTX times no kernels when it builds, and so has nothing to remember."""
        return not self.is_rtx and hasattr(config, "create_timing_cache")

    def aim_at(self, config: Any, capability: str) -> None:
        """Build for a GPU that is not there. Raises ValueError where that cannot be done."""
        if capability not in self.capabilities:
            known = ", ".join(self.capabilities) or "only the GPU that is there"
            raise ValueError(f"{self.name} {self.version} builds for {known}, not {capability}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(self.trt.ComputeCapability, capability), 0)

    def is_error(self, severity: Any) -> bool:
        kinds = self.trt.ILogger
        return severity in (kinds.ERROR, kinds.INTERNAL_ERROR)

    def is_warning(self, severity: Any) -> bool:
        return bool(severity == self.trt.ILogger.WARNING)


def numbers_of(version: str) -> tuple[int, ...]:
    """ "10.3.0" -> (10, 3, 0); what is no number ends it."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def find_api(name: str | None = None) -> Api:
    """The named library, or the first of LIBRARIES that is there. Raises EV355 for none."""
    failures = []
    for library in (name,) if name else LIBRARIES:
        try:
            module = importlib.import_module(library)
            if not hasattr(module, "Builder"):  # an empty folder of that name imports, too
                raise ImportError("it has no Builder")
            return Api(module)
        except (ImportError, OSError, AttributeError) as error:  # OSError: libnvinfer is missing
            failures.append(f"{library}: {str(error)[:200]}")
    raise JobFault(
        "EV355",
        f"TensorRT for Python ({name or ' or '.join(LIBRARIES)}) cannot be imported",
        "; ".join(failures),
        "sudo apt-get install python3-libnvinfer (part of JetPack), and call /usr/bin/python3",
    )


def _log_class(trt: Any) -> type:
    """A subclass of the module's own ILogger, which TensorRT insists on."""

    kinds = trt.ILogger
    loud_ones = (kinds.WARNING, kinds.ERROR, kinds.INTERNAL_ERROR)

    class Log(trt.ILogger):
        def __init__(self, loud: bool) -> None:
            trt.ILogger.__init__(self)
            self.loud = loud
            self.lines: list[tuple[Any, str]] = []

        def log(self, severity: Any, message: str) -> None:
            # a builder that times kernels says so of each; of a large part that is 100 MB of text
            if severity != kinds.VERBOSE or "LayerType: " in message:
                self.lines.append((severity, message))
            if self.loud and severity in loud_ones:
                print(f"tensorrt: {message[:500]}", file=sys.stderr, flush=True)

    return Log
