"""A bundle whose engines are built here: on the device, or a desktop with the card it is for.

Engines that are kept from the last time are taken, others are built, in a folder beside the bundle.
One call of every part is compared with what the host's compile kept, before anything is answered.
The same code builds for the two scripts of a bundle (on_device/).
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.runtimes.tensorrt.on_device.answers import check_answers, failure_of, notes_of
from edgevlm.runtimes.tensorrt.on_device.api import find_api
from edgevlm.runtimes.tensorrt.on_device.calling import as_fault
from edgevlm.runtimes.tensorrt.on_device.cudart import CudaError, find_cuda
from edgevlm.runtimes.tensorrt.on_device.goldens import OutputCheck, check_parts
from edgevlm.runtimes.tensorrt.on_device.making import Made
from edgevlm.runtimes.tensorrt.on_device.plan import read_plan
from edgevlm.runtimes.tensorrt.on_device.session import Session, open_session
from edgevlm.runtimes.tensorrt.on_device.tensors import Tensors

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle

__all__ = ["OpenedEngines", "can_build", "open_engines"]

#: what the scripts of a bundle are told by their options, as they are without any
PLAIN = {"library": None, "engines": None, "workspace": None, "verbose": False}
PLAIN |= {"any_device": False, "no_build": False, "no_graph": False}
FIX = "compile without the scheme at fault; edgevlm report shows which part strays"

_open: WeakValueDictionary[tuple[Path, str], OpenedEngines] = WeakValueDictionary()


class OpenedEngines:
    """The parts of a bundle on this GPU, until the process ends.

    `report`: what was built, and how it compared, for `edgevlm profile`.
    """

    def __init__(self, session: Session, held: ExitStack, report: dict[str, Any]) -> None:
        self.call, self.cache = session.parts.call, session.parts.cache
        self.report, self._session, self._held = report, session, held

    def check_answers(self) -> None:
        """The goldens, token for token, into the report. Raises EV353 where they are others."""
        plan = self._session.plan
        if plan.is_whole and "answers" not in self.report:
            answers = check_answers(plan, self._session.parts, Tensors(plan.tensors), None)
            _raise(failure_of((), answers, FIX))
            self.report["answers"] = [answer.as_json() for answer in answers]
            self.report["notes"] += notes_of(answers)

    def layer_times(self, runs: int) -> list[tuple[str, str, float]]:
        """(part, layer, mean ms) as TensorRT's profiler has them."""
        return [
            (role, layer, ms)
            for role, engine in self._session.parts.engines.items()
            for layer, ms in engine.layer_ms(runs).items()
        ]


def can_build(bundle: Bundle) -> bool:
    """Whether this machine has TensorRT, CUDA's runtime and a GPU that the bundle is for."""
    with suppress(EdgeError, RuntimeError, OSError):
        find_api()
        return find_cuda().compute_capability == read_plan(bundle.folder).sm
    return False


def open_engines(bundle: Bundle) -> OpenedEngines:
    """Those that are open already, while somebody holds them: there is memory for them once.

    Raises EV350 (refused), EV353 (other outputs), EV354-EV357, EV304 and EV307 (CUDA).
    """
    key = bundle.folder.resolve(), bundle.digest
    opened = _open.get(key)
    if opened is None:
        try:
            opened = _open[key] = _opened(bundle)
        except (CudaError, OSError) as error:
            raise as_fault(error) from error
    return opened


def _opened(bundle: Bundle) -> OpenedEngines:
    plan = read_plan(bundle.folder)
    args = argparse.Namespace(bundle=bundle.folder, **PLAIN)
    with ExitStack() as stack:
        session = stack.enter_context(open_session(plan, args))
        checks = _compared(session)
        report = {
            **session.about(),
            "parts": [_row(one) for one in session.made],
            "goldens": [check.as_json() for check in checks],
            "notes": session.notes,
        }
        held = stack.pop_all()
    return OpenedEngines(session, held, report)


def _compared(session: Session) -> list[OutputCheck]:
    """One call of every part. Raises EV353 where an output is not the host's."""
    checks = check_parts(session.plan.parts, session.parts, Tensors(session.plan.tensors))
    _raise(failure_of(checks, (), FIX))
    return checks


def _raise(fault: JobFault | None) -> None:
    if fault:
        raise fault


def _row(made: Made) -> dict[str, Any]:
    """Without the layers, which `--ops` times."""
    row = made.as_json()
    row.pop("layers")
    return row
