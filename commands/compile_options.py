"""What a compile is asked for, and what the command line makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgevlm.compiler.contract import VLM_ROLES, Role
from edgevlm.compiler.errors import UsageFault
from edgevlm.models.source import SourceOptions
from edgevlm.passes.derive.asked import parse_derived
from edgevlm.passes.pipelines import Flags
from edgevlm.passes.tokens.schedule import parse_asked

__all__ = ["CompileOptions", "options_of"]


@dataclass(frozen=True)
class CompileOptions:
    target: str
    out: Path
    flags: Flags = field(default_factory=Flags)
    recipe: Path | None = None  # in place of the flags
    source: SourceOptions = field(default_factory=SourceOptions)
    force: bool = False
    min_sqnr: float | None = None  # dB, floor for passes that approximate; None: their own
    calib: str | None = None  # folder or data set that numbers are fitted to; None: the probes
    payoff: str = "quick"  # none, quick (before and after) or full (and the crossover)
    max_drop: float | None = None  # points that quantisation may lose; None: not measured
    toolchain: str | None = None  # on the device: jetpack-6.2; None: what its file says
    parts: tuple[Role, ...] | None = None  # that are written; None: all
    preflight: bool = True  # by a compiler on this host, where there is one

    @property
    def scheme(self) -> str:
        """What the rounding of a compile is called."""
        if self.recipe:
            return "the recipe"
        names = [self.flags.quant] if self.flags.quant != "none" else []
        return ", ".join([*names, *(["int8 KV"] if self.flags.kv == "int8" else [])])


def options_of(
    target: str,
    out: Path,
    *,
    tokens: str | None = None,
    prune: str | None = None,
    prune_at: str | None = None,
    positions: str | None = None,
    quant: str | None = None,
    kv: str | None = None,
    classes: str | None = None,
    alpha: float | None = None,
    latency_budget: str | None = None,
    domain: str | None = None,
    purify: int | None = None,
    recover: int | None = None,
    recipe: Path | None = None,
    max_prompt: int | None = None,
    max_answer: int | None = None,
    probes: Path | None = None,
    calib: str | None = None,
    min_sqnr: float | None = None,
    force: bool = False,
    payoff: str = "quick",
    max_drop: float | None = None,
    toolchain: str | None = None,
    os: str | None = None,
    parts: str | None = None,
    preflight: str = "auto",
    layout: str | None = None,
) -> CompileOptions:
    """The options of the command line, None where one was not given.

    Raises EV220 for options that would be passed over in silence.
    """
    said = (tokens, prune, prune_at, positions, quant, kv)
    said += (classes, alpha, latency_budget, domain, purify, recover, layout)
    if recipe and any(each is not None for each in said):
        raise UsageFault(
            "EV220",
            "--recipe with --tokens, --prune, --prune-at, --positions, --quant, --kv, --classes, "
            "--alpha, --latency-budget, --domain, --purify, --recover or --layout",
            "a recipe says all of that itself, so these would do nothing",
            "leave them out, or edit the recipe: it is TOML",
        )
    reduction = parse_asked(tokens, prune, prune_at, positions)
    derived = parse_derived(
        classes, alpha, latency_budget, domain=domain, purify=purify, recover=recover
    )
    if domain is not None and calib is not None:
        raise UsageFault(
            "EV220",
            "--domain with --calib",
            "what the model is derived for is what it is fitted to",
            "leave --calib out",
        )
    if os is not None and toolchain is not None:
        raise UsageFault(
            "EV220",
            "--os with --toolchain",
            "the system is the toolchain of an iPhone",
            "leave one of them out",
        )
    flags = Flags(reduction, quant or Flags.quant, kv or Flags.kv, derived, layout or Flags.layout)
    source = SourceOptions(max_prompt, max_answer, probes)
    return CompileOptions(
        target,
        out,
        flags,
        recipe,
        source,
        force,
        min_sqnr,
        domain or calib,
        payoff,
        max_drop,
        toolchain if os is None else f"ios-{os.strip()}",
        _roles(parts),
        preflight != "none",
    )


def _roles(asked: str | None) -> tuple[Role, ...] | None:
    """Raises EV220 for a part there is none of."""
    if asked is None:
        return None
    names = [name.strip() for name in asked.split(",")]
    unknown = sorted(set(names) - set(VLM_ROLES))
    if unknown:
        raise UsageFault(
            "EV220",
            f"--parts {asked[:80]}",
            f"{unknown[0][:40]!r} is no part; parts: {', '.join(VLM_ROLES)}",
            "--parts vision,connector",
        )
    return tuple(role for role in VLM_ROLES if role in names)
