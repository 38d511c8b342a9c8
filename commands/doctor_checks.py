"""What `edgevlm doctor` looks at, one function a subject; each yields lines of its table.

Version ranges are read from the installed package, so they live in setup.cfg only.
"""

from __future__ import annotations

import dataclasses
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from edgevlm.compiler.cache import cache_root

__all__ = [
    "Check",
    "disk",
    "facts",
    "machine",
    "meters",
    "packages",
    "programs",
    "python",
    "runtime",
]

# Extra of setup.cfg -> what asks for it. An extra named like a runtime is needed by its devices.
_EXTRAS = {
    "torch": "compiling a Hugging Face checkpoint",
    "openvino": "--target host-openvino: this machine, int8 faster on x86",
    "tensorrt": "the preflight of --target jetson and other NVIDIA GPUs",
    "executorch": "--target android, pixel-9 and other phones",
    "coreml": "--target iphone, iOS 18 and later",
    "coreai": "--target iphone, iOS 27 and later",
    "fpga": "later: --target fpga",
    "report": "edgevlm sweep: its plot, edgevlm inspect --plot",
    "ray": "edgevlm derive --on ray://HEAD",
    "data": "make demo, edgevlm eval --dataset easy-vqa",
    "dev": "make test",
}
# Runtimes that make their artifacts without the packages of their extra.
_WITHOUT = ("tensorrt",)
# Program names, the first that is found -> what asks for it, Debian package.
_PROGRAMS = (
    (("ssh",), "edgevlm profile --device ssh://USER@HOST", "openssh-client"),
    (("adb",), "edgevlm profile --device adb:SERIAL", "adb"),
    (
        ("chromium", "chromium-browser", "google-chrome"),
        "make test: looking at the page of edgevlm report",
        "chromium",
    ),
    (("verilator",), "later: --target fpga, running the RTL", "verilator"),
    (("g++",), "later: --target fpga, building the simulator and the HLS model", "g++"),
)
_LEAST_FREE_GB = 2.0


@dataclasses.dataclass(frozen=True)
class Check:
    """One line: `found` and `fix` are sentences for a person."""

    name: str
    ok: bool | None
    found: str
    needed_for: str
    fix: str | None = None


def python() -> Iterator[Check]:
    from packaging.specifiers import SpecifierSet

    wanted, found = metadata.metadata("edgevlm")["Requires-Python"], platform.python_version()
    ok = SpecifierSet(wanted).contains(found, prereleases=True)
    yield Check(
        "python",
        ok,
        f"{found} ({wanted})",
        "everything",
        None if ok else f"make a virtual environment with Python {wanted}",
    )


def runtime(name: str) -> Iterator[Check]:
    """Whether this version can compile for the device at all; "": its file could not be read."""
    from edgevlm.runtimes import RUNTIMES

    if name:
        yield Check(
            f"runtime {name}",
            name in RUNTIMES,
            "part of this edgevlm" if name in RUNTIMES else "not part of this edgevlm yet",
            "compiling for the device",
            None if name in RUNTIMES else "--target cpu, until a later version has it",
        )


def facts(runtime: str, device: str) -> Iterator[Check]:
    """What is known of the device's toolchain; nothing of one that this version does not lower to.

    The whole table, as `--toolchain` of compile would leave it.
    """
    from edgevlm.devices import find_device
    from edgevlm.runtimes import RUNTIMES, find_runtime

    if runtime in RUNTIMES:
        for what, known, how in find_runtime(runtime).aimed_at(find_device(device)).known_facts():
            yield Check(what, None, known, how)


def packages(runtime: str) -> Iterator[Check]:
    """One line for each package and range; extras that ask for the same share it."""
    from packaging.requirements import Requirement

    from edgevlm.compiler.workshop.home import has_environment
    from edgevlm.devices.host import tool_versions

    known = metadata.metadata("edgevlm").get_all("Provides-Extra", [])
    users: dict[tuple[str, str], set[str]] = {}
    ranges = {}
    for needed in map(Requirement, metadata.requires("edgevlm") or ()):
        asking = {
            extra
            for extra in ("", *known)  # "" is the plain install
            if not needed.marker or needed.marker.evaluate({"extra": extra})
        }
        if asking:
            key = (needed.name, str(needed.specifier))
            ranges[key] = needed.specifier
            users.setdefault(key, set()).update(asking)
    versions = tool_versions({name for name, _ in ranges})
    for (name, wanted), asking in users.items():
        version = versions[name]
        fits = version is not None and ranges[name, wanted].contains(version, prereleases=True)
        needed = runtime in asking and runtime not in _WITHOUT and not has_environment(runtime)
        must = "" in asking or needed
        extras = [] if "" in asking else [extra for extra in known if extra in asking]
        package = f"edgevlm[{extras[0]}]" if extras else f"{name}{wanted}"
        found = version or "not installed"
        yield Check(
            name,
            True if fits else (False if must else None),
            f"{found} ({wanted})" if fits or not version else f"{found}, not {wanted}",
            "; ".join(_EXTRAS.get(extra, extra) for extra in extras) or "everything",
            None if fits else f'pip install "{package}"',
        )


def machine() -> Iterator[Check]:
    from edgevlm.devices.host import describe_host

    host = describe_host()
    yield Check(
        "cores",
        True,
        f"{host.cores} ({host.cpu_model or host.architecture})",
        "compiling and profiling",
    )
    yield Check(
        "memory",
        True if host.ram_gib else None,
        f"{host.ram_gib} GiB" if host.ram_gib else "cannot be read",
        "compiling; a model of 2 billion parameters takes up to 24 GiB",
        None if host.ram_gib else "compare the model's size with this machine's memory",
    )
    steady = host.governor == "performance"
    advice = "repeat the profile and compare p50; the clock is out of reach here"
    if host.governor:
        advice = "sudo cpupower frequency-set -g performance, while you profile"
    yield Check(
        "clock governor",
        steady or None,
        host.governor or "cannot be read",
        "figures of edgevlm profile that repeat",
        None if steady else advice,
    )
    if host.load_average:
        calm = host.load_average[0] < 0.5 * host.cores
        yield Check(
            "load",
            calm or None,
            f"{host.load_average[0]} threads over the last minute",
            "figures of edgevlm profile that repeat",
            None if calm else "stop other work before profiling",
        )


def disk() -> Iterator[Check]:
    for name, folder in (("disk, current folder", Path.cwd()), ("disk, cache", cache_root())):
        here = next(path for path in (folder, *folder.parents) if path.exists())
        free_gb = shutil.disk_usage(here).free / 1e9
        ok = free_gb >= _LEAST_FREE_GB
        yield Check(
            name,
            ok,
            f"{free_gb:.1f} GB free",
            "bundles and exported models",
            None if ok else f"free disk until {_LEAST_FREE_GB:g} GB are left",
        )
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"edgevlm")
            file.flush()
        yield Check("temporary folder", True, "writable", "compiling")
    except OSError as error:
        yield Check(
            "temporary folder",
            False,
            f"not writable ({type(error).__name__})",
            "compiling",
            "export TMPDIR=<a folder you may write to>",
        )


def meters() -> Iterator[Check]:
    from edgevlm.devices.power import METERS

    for name, make in METERS.items():
        reason = make().available()
        yield Check(
            f"energy meter {name}",
            None if reason else True,
            reason or "readable",
            "joules in edgevlm profile",
            "profile without energy, or on a machine with a meter" if reason else None,
        )


def programs() -> Iterator[Check]:
    for names, needed_for, package in _PROGRAMS:
        found = next((name for name in names if shutil.which(name)), None)
        yield Check(
            names[0],
            True if found else None,
            found or "not installed",
            needed_for,
            None if found else f"sudo apt-get install {package}",
        )
