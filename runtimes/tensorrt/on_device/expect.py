"""The kernels that the artifact was made for, against those that the builder chose.

A Q/DQ graph that lost its integer kernels still builds and still answers; only the layers show it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping

__all__ = ["Verdict", "compare_kernels"]

#: of these, `expects` gives the most there may be; of all others, the least
MOST = frozenset(("fp32_gemm", "unpacked", "opaque", "layers", "other_gemm"))


@dataclass
class Verdict:
    """ok: None where it cannot be told, because a layer hides its kernels."""

    what: str
    wanted: int
    found: int
    ok: bool | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        bound = "at most" if self.what in MOST else "at least"
        told = f"{self.what}: {bound} {self.wanted} wanted, {self.found} found"
        return told + (" (cannot be told: layers hide products)" if self.ok is None else "")


def compare_kernels(
    summary: Mapping[str, Any], expects: Mapping[str, int], named: bool = True
) -> list[Verdict]:
    """A verdict for every count that is expected, in their order.

    A layer that hides kernels, or a product that no layer names, may hold what is missing, and may
    hold what should not be there: a shortage is no failure then, and an absence no proof.
    named: whether the products of the network are known by name. Else layers were counted, and one
    may be several products; that there is none is sure.
    """
    hidden = bool(summary.get("opaque") or summary.get("unseen") or not summary.get("layers"))
    verdicts = []
    for what, wanted in expects.items():
        found = int(summary.get(what, 0))
        if what in MOST:
            ok = found <= wanted
            unsure = hidden and ok and what != "opaque"
        else:
            ok = found >= wanted
            unsure = hidden and not ok
        if not named and what.endswith("_gemm") and found:
            unsure = unsure or ok == (what in MOST)
        verdicts.append(Verdict(what, wanted, found, None if unsure else ok))
    return verdicts
