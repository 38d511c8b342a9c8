"""Every part of a plan as an engine: found, or built and kept; and what is to be told of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.api import Api
from edgevlm.runtimes.tensorrt.on_device.build import OPTIONS, Built, build_part
from edgevlm.runtimes.tensorrt.on_device.check import check_artifacts, check_room
from edgevlm.runtimes.tensorrt.on_device.cudart import Cuda
from edgevlm.runtimes.tensorrt.on_device.engine import Engine
from edgevlm.runtimes.tensorrt.on_device.expect import Verdict, compare_kernels
from edgevlm.runtimes.tensorrt.on_device.kernels import summary
from edgevlm.runtimes.tensorrt.on_device.keys import EngineKey, EngineStore, Kept
from edgevlm.runtimes.tensorrt.on_device.layers import Row, rows_of_inspector
from edgevlm.runtimes.tensorrt.on_device.plan import PartPlan, Plan
from edgevlm.runtimes.tensorrt.on_device.products import Products

__all__ = ["Made", "Maker", "preflight"]

Tell = Callable[[str], None]


@dataclass
class Made:
    """One part: its engine, or the refusals; its layers, and whether they are as expected."""

    part: PartPlan
    built: Built
    why: str = ""  # it was built and not taken from the folder
    engine: Engine | None = None
    path: Path | None = None
    engine_bytes: int = 0
    rows: list[Row] = field(default_factory=list)

    def close(self) -> None:
        """Give the memory back; may be called twice."""
        if self.engine:
            self.engine.close()
            self.engine = None

    @property
    def counts(self) -> dict[str, Any]:
        return summary(self.rows, self.built.products)

    @property
    def verdicts(self) -> list[Verdict]:
        return compare_kernels(self.counts, self.part.expects)

    def as_json(self) -> dict[str, Any]:
        return {
            "role": self.part.role,
            "ok": not self.built.refusals,
            "why": self.why,
            "parse_s": self.built.parse_s,
            "build_s": self.built.build_s,
            "engine_bytes": self.engine_bytes,
            "network_layers": self.built.network_layers,
            "refusals": [refusal.as_json() for refusal in self.built.refusals],
            "warnings": self.built.warnings,
            "summary": self.counts,
            "expects": [verdict.as_json() for verdict in self.verdicts],
            "layers": self.rows,
        }


def preflight(api: Api, part: PartPlan, workspace: int | None, capability: str) -> Made:
    """Build for a GPU that is not there; nothing is kept."""
    built = build_part(
        part.path,
        api,
        compute_capability=capability,
        workspace=workspace,
        profile=part.profile,
    )
    return Made(part, built, "preflight", engine_bytes=built.engine_bytes, rows=built.rows)


@dataclass
class Maker:
    """Where engines are built and kept. timing: remember how fast kernels were."""

    api: Api
    cuda: Cuda
    stream: int
    store: EngineStore
    plan: Plan
    sm: int
    workspace: int | None
    may_build: bool = True
    rebuild: bool = False
    timing: bool = True
    loud: bool = False
    only_build: bool = False  # an engine is closed as soon as it was seen to open

    def make(self, parts: Sequence[PartPlan], tell: Tell) -> list[Made]:
        """Engines of all parts, opened unless `only_build`.

        Raises EV351 where one is missing and may not be built.
        """
        found = {part.role: self._find(part) for part in parts}
        missing = [part for part in parts if isinstance(found[part.role], str)]
        if missing and not self.may_build:
            why = "; ".join(f"{part.role}: {found[part.role]}" for part in missing)
            raise JobFault(
                "EV351",
                f"there are no engines for {len(missing)} of {len(parts)} parts",
                why,
                "leave --no-build out, or run: python3 build_on_device.py",
            )
        if missing:
            check_artifacts(self.plan, missing)
            check_room(self.plan, self.store.folder, self.cuda)
        made: list[Made] = []
        try:
            for part in parts:
                kept = found[part.role]
                if isinstance(kept, Kept):
                    made.append(self._open(part, kept))
                else:
                    tell(f"{part.role}: building ({kept})")
                    made.append(self._build(part, kept))
                if self.only_build:
                    made[-1].close()
        except BaseException:
            for one in made:
                one.close()
            raise
        return made

    def claim(self, parts: Sequence[PartPlan]) -> None:
        """Engines of these parts are in use, whether or not they were made now."""
        self.store.used.update(self._key(part).name for part in parts)
        self.store.used.add(self.store.timing_cache(*self._where).name)

    @property
    def _where(self) -> tuple[str, str, int]:
        return self.api.name, self.api.version, self.sm

    def _key(self, part: PartPlan) -> EngineKey:
        return EngineKey(part.role, *self._where, part.digest, self.workspace, OPTIONS)

    def _find(self, part: PartPlan) -> Kept | str:
        return "it was asked for" if self.rebuild else self.store.find(self._key(part))

    def _build(self, part: PartPlan, why: str) -> Made:
        if self.timing:
            self.store.make_folder()
        built = build_part(
            part.path,
            self.api,
            workspace=self.workspace,
            timing_cache=self.store.timing_cache(*self._where) if self.timing else None,
            profile=part.profile,
            loud=self.loud,
        )
        made = Made(part, built, why, engine_bytes=built.engine_bytes)
        if not built.ok:
            return made
        made.engine = self._load(part, built.engine)
        made.rows = _rows(made.engine, built.rows)
        record = {
            "parse_s": built.parse_s,
            "build_s": built.build_s,
            "network_layers": built.network_layers,
            "products": built.products.as_json(),
            "layers": made.rows,
        }
        try:
            made.path = self.store.keep(self._key(part), built.engine, record)
        except BaseException:
            made.engine.close()
            raise
        built.engine = b""  # as large as the weights, and on the device and the disk by now
        return made

    def _open(self, part: PartPlan, kept: Kept) -> Made:
        record = kept.record
        built = Built(
            b"",
            network_layers=record.get("network_layers", 0),
            products=Products.of_json(record.get("products", {})),
        )
        engine = self._load(part, kept.path.read_bytes())  # one at a time, and let go at once
        rows = _rows(engine, record.get("layers", []))
        return Made(part, built, "", engine, kept.path, kept.path.stat().st_size, rows)

    def _load(self, part: PartPlan, plan: Any) -> Engine:
        engine = Engine(self.api, self.cuda, self.stream, part.role, plan)
        try:
            engine.check_ports(part.inputs, part.outputs)
        except JobFault:
            engine.close()
            raise
        return engine


def _rows(engine: Engine, logged: list[Row]) -> list[Row]:
    """Of the engine itself, where it tells types; else of the builder's log, where that does."""
    try:
        inspected = rows_of_inspector(engine.information())
    except ValueError:
        return logged
    return inspected if any(row["type"] for row in inspected) or not logged else logged
