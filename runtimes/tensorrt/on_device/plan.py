"""plan.json: what the host's compile says of the parts, read and checked.

A bundle may come from a stranger: sizes are bounded, names stay inside the bundle, and nothing is
taken for a number that is none.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.plan_contract import PlanContract, PlanPort, ports_of
from edgevlm.runtimes.tensorrt.on_device.taken import Broken, integer, integers, table, text

__all__ = ["PLAN", "ROLES", "PartPlan", "Plan", "PlanGolden", "read_plan"]

PLAN = "tensorrt/plan.json"
SCHEMA = 1
ROLES = ("vision", "connector", "embed", "prefill", "decode")
MAX_BYTES = 4 * 2**20
MAX_ANSWER = 16  # of bundles that do not say it
#: relative, of plain names; no "..", no backslash, nothing hidden
NAME = re.compile(r"(?!.*(?:^|/)\.)[\w.-]+(?:/[\w.-]+)*")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PartPlan:
    """One artifact and what is known of it."""

    role: str
    path: Path
    sha256: str  # of the ONNX file
    digest: str  # of the ONNX file and the weights beside it
    profile: dict[str, list[list[int]]]  # open inputs: least, usual, most shape
    floor_db: float  # signal to noise below which outputs are wrong
    expects: dict[str, int]  # counts of kernels, see expect.py
    inputs: list[PlanPort]
    outputs: list[PlanPort]


@dataclass(frozen=True)
class PlanGolden:
    question: str
    answer: str
    token_ids: list[int]


@dataclass(frozen=True)
class Plan:
    bundle: Path
    edgevlm: str
    device: str
    tensorrt: str  # release that the artifacts were written for
    jetpack: str
    sm: int  # compute capability x 10
    workspace: int | None  # bytes
    kind: str  # vlm, classifier, dense
    contract: PlanContract
    eos_ids: list[int]
    max_answer: int  # tokens after which the host's answers end
    parts: list[PartPlan]
    goldens: list[PlanGolden]
    tensors: Path

    @property
    def is_whole(self) -> bool:
        """Whether every part is here, and not only those that see."""
        wanted = ROLES if self.kind == "vlm" else ROLES[:1]
        return {part.role for part in self.parts} == set(wanted)


def read_plan(bundle: Path) -> Plan:
    """Raises EV357 for a plan that is missing, broken, or of a newer edgevlm."""
    path = bundle / PLAN
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Broken(f"it has more than {MAX_BYTES} bytes")
        return _plan(bundle, table(json.loads(path.read_text(encoding="utf-8")), "the plan"))
    except (OSError, ValueError, RecursionError) as error:  # Broken and json's are ValueErrors
        raise JobFault(
            "EV357",
            f"{path} is no plan that can be followed",
            str(error)[:300] or type(error).__name__,
            "copy the whole bundle again, or compile it again with the edgevlm that is there",
        ) from error


def _plan(bundle: Path, told: Mapping[str, Any]) -> Plan:
    if told.get("schema") != SCHEMA:
        raise Broken(f"its schema is {told.get('schema')!r}, this one reads {SCHEMA}")
    kind = text(told, "kind", 16)
    if kind not in ("vlm", "classifier", "dense"):
        raise Broken(f"kind is {kind!r}")
    rows = told.get("parts")
    if not isinstance(rows, list) or not 1 <= len(rows) <= len(ROLES):
        raise Broken("parts is no list of one to five parts")
    parts = [_part(bundle, table(row, "a part")) for row in rows]
    roles = [part.role for part in parts]
    if len(set(roles)) != len(roles):
        raise Broken(f"parts has a role twice: {', '.join(roles)}")
    goldens = told.get("goldens", [])
    if not isinstance(goldens, list) or len(goldens) > 1000:
        raise Broken("goldens is no list of at most 1000")
    workspace = told.get("workspace_bytes")
    return Plan(
        bundle,
        text(told, "edgevlm", 40),
        text(told, "device", 100),
        text(told, "tensorrt", 40),
        text(told, "jetpack", 40) if told.get("jetpack") else "",
        integer(told, "sm", 30, 999),
        None if workspace is None else integer(told, "workspace_bytes", 2**20, 2**40),
        kind,
        PlanContract(told.get("contract"), {row["role"]: row for row in rows}, kind),
        integers(told.get("eos_ids", []), "eos_ids", 100),
        integer({"max_answer": MAX_ANSWER, **told}, "max_answer", 1, 10**6),
        parts,
        [_golden(table(row, "a golden")) for row in goldens],
        _inside(bundle, text(told, "tensors", 200)),
    )


def _part(bundle: Path, row: Mapping[str, Any]) -> PartPlan:
    role = text(row, "role", 16)
    if role not in ROLES:
        raise Broken(f"there is no part {role!r}")
    digests = [text(row, key, 64) for key in ("sha256", "digest")]
    if not all(map(DIGEST.fullmatch, digests)):
        raise Broken(f"a digest of part {role} is no SHA-256")
    profile = {}
    for name, shapes in table(row.get("profile", {}), "a profile").items():
        if not isinstance(shapes, list) or len(shapes) != 3:
            raise Broken(f"the profile of {name!r} is not three shapes")
        profile[name] = [integers(shape, "a shape", 8) for shape in shapes]
    expects = table(row.get("expects", {}), "expects")
    floor = row.get("floor_db", 30.0)
    if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not 0 <= floor <= 200:
        raise Broken(f"floor_db of part {role} is {floor!r}")
    return PartPlan(
        role,
        _inside(bundle, text(row, "file", 200)),
        digests[0],
        digests[1],
        profile,
        float(floor),
        {str(key)[:40]: integer(expects, key, 0, 10**6) for key in list(expects)[:100]},
        ports_of(row, "inputs"),
        ports_of(row, "outputs"),
    )


def _golden(row: Mapping[str, Any]) -> PlanGolden:
    ids = integers(row.get("token_ids", []), "token_ids", 10**6)
    return PlanGolden(text(row, "question", 10**5), text(row, "answer", 10**5), ids)


def _inside(bundle: Path, name: str) -> Path:
    """A file of the bundle; a link that leads out of it is none."""
    if not NAME.fullmatch(name):
        raise Broken(f"{name!r} is no name of a file in the bundle")
    path = bundle / name
    if bundle.resolve() not in path.resolve().parents:
        raise Broken(f"{name} leads out of the bundle")
    return path
