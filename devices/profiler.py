"""The measurement protocol: one way to time a request, whatever runtime answers it.

A request runs through stages. Every stage but `decode` takes at most one time a request; `decode`
takes one for each token after the first. The four figures, all at p50 over the timed requests:

    fps            1 / p50 of (preprocess + vision + connector), summed within each request: images
                   a second from the decoded picture to the tokens the language model reads
    ttft_ms        p50 of (preprocess + vision + connector + prefill), summed within each request;
                   the first token's sampling belongs to `prefill`
    tokens_per_s   1 / p50 of the `decode` times of all requests together
    answers_per_s  1 / p50 of `end_to_end`, the request as its caller sees it

A stage a model does not have counts nothing in a sum. A figure is None when what it needs was not
timed: fps needs `vision`, ttft_ms needs `prefill`. Energy is all that the meter saw during the
timed requests, divided by their number: idle power is included, and the note says how much it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices.host import Host, boot_time, clock_mhz, describe_host, peak_rss_mb
from edgevlm.devices.power import EnergyResult, Meter, measure_energy
from edgevlm.devices.stats import Summary, percentile, summarise
from edgevlm.devices.thermal import Thermal

__all__ = ["STAGES", "Profile", "check_counts", "profile"]

STAGES = ("preprocess", "vision", "connector", "prefill", "decode", "end_to_end")
_IMAGE = ("preprocess", "vision", "connector")
MOST_SECONDS = 24 * 3600

Times = Mapping[str, Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Profile:
    """What one profile run found. `host` is the machine that ran the timed requests."""

    stages: Mapping[str, Summary]  # in the order of STAGES, timed ones only
    fps: float | None  # 1/s
    tokens_per_s: float | None
    ttft_ms: float | None
    answers_per_s: float | None
    energy: EnergyResult | None
    energy_note: str
    warmup: int
    n: int
    peak_rss_mb: float  # 1e6 bytes, of the whole process since it began
    host: Host
    requests: Sequence[Times] = ()  # timed ones, in order
    window: tuple[float, float] = (0.0, 0.0)  # of them, by `boot_time` of the machine

    @property
    def energy_j_per_answer(self) -> float | None:
        """Joules for one answer with idle included; None when `energy_note` says why."""
        return self.energy.joules_per_answer if self.energy else None

    @property
    def power(self) -> dict[str, Any] | None:
        """What the meter read, with two figures that follow; None without a meter.

        Joules an image: mean watts for as long as a picture takes up to the tokens that the
        language model reads. A meter sees a request as one, so watts count as steady within it.
        """
        if self.energy is None:
            return None
        watts = self.energy.watts
        rate = self.fps / watts if self.fps and watts else None
        image = watts / self.fps if self.fps and watts else None
        return {**self.energy.as_json(), "joules_per_image": image, "fps_per_watt": rate}

    def as_json(self) -> dict[str, Any]:
        """Plain data with the names that reports and `--json` use."""
        return {
            "stages": {stage: summary.as_json() for stage, summary in self.stages.items()},
            "fps": self.fps,
            "tokens_per_s": self.tokens_per_s,
            "ttft_ms": self.ttft_ms,
            "answers_per_s": self.answers_per_s,
            "power": self.power,
            "energy_j_per_answer": self.energy_j_per_answer,
            "energy_note": self.energy_note,
            "warmup": self.warmup,
            "n": self.n,
            "peak_rss_mb": self.peak_rss_mb,
            "host": self.host.as_json(),
        }


def profile(
    answer_once: Callable[[int], Times],
    *,
    warmup: int,
    n: int,
    meter: Meter | None = None,
    progress: Callable[[int, int], None] | None = None,
    how: str = "measured-host",
    idle_s: float = 5.0,
    duration_s: float | None = None,
    thermal: Thermal | None = None,
) -> Profile:
    """Run `warmup` requests untimed, then `n` timed ones, or with `duration_s` for so long.

    `answer_once(i)` runs one request on this machine and returns seconds for each stage; i counts
    from 0 in the warm-up and again from 0 in the timed run, which so never depends on `warmup`.
    `progress(done, total)` is called after each request, total = warmup + n; with `duration_s` both
    are whole seconds. `how` labels the times; `idle_s` is the length in seconds of the idle window
    before and after, with a meter. Load is read before the warm-up, core 0's clock right after the
    last timed request; `thermal` looks at the machine between timed requests.

    Raises UsageFault EV410 for a bad count and ValueError for times that break the rules above.
    What `answer_once` raises, KeyboardInterrupt included, passes through with the meter stopped.
    """
    check_counts(warmup, n, duration_s)
    if how not in ("measured-device", "measured-host"):
        raise ValueError(f"a profile is measured, so its label cannot be {how!r}")
    reason = "no meter was given" if meter is None else meter.available()
    host = describe_host()
    clock: float | None = None
    requests: list[Times] = []
    window = (0.0, 0.0)

    def advance(done: int) -> None:
        if progress and duration_s is None:
            progress(done, warmup + n)

    def warm_up() -> None:
        for i in range(warmup):
            answer_once(i)
            advance(i + 1)

    def timed() -> int:
        nonlocal clock, window
        if thermal:
            thermal.begin()
        began, start = monotonic(), boot_time()
        while (len(requests) < n) if duration_s is None else (monotonic() - began < duration_s):
            requests.append(answer_once(len(requests)))
            if thermal:
                thermal.look()
            advance(warmup + len(requests))
            if progress and duration_s is not None:
                progress(int(min(monotonic() - began, duration_s)), int(duration_s))
        window = (start, boot_time())
        clock = clock_mhz()
        if thermal:
            thermal.end()
        return len(requests)

    energy = None
    if reason is None:
        try:
            energy = measure_energy(meter, timed, idle_s=idle_s, prepare=warm_up, how=how)
        except JobFault as fault:
            if fault.code != "EV402" or not requests or (duration_s is None and len(requests) < n):
                raise
            reason = fault.why  # the times are whole, only the meter failed
    else:
        warm_up()
        timed()
    note = energy.note if energy else f"not measured: {reason}"
    host = dataclasses.replace(host, clock_mhz=clock)
    found = _gather(requests, energy, note, warmup, how, host)
    return dataclasses.replace(found, window=window)


def _gather(
    requests: Sequence[Times],
    energy: EnergyResult | None,
    note: str,
    warmup: int,
    how: str,
    host: Host,
) -> Profile:
    timed = _timed_stages(requests)
    samples = {
        stage: [value for times in requests for value in times.get(stage, ())] for stage in STAGES
    }
    stages = {stage: summarise(values, how) for stage, values in samples.items() if values}

    def p50_s(*parts: str) -> float:
        return _p50([sum(times[part][0] for part in parts if part in timed) for times in requests])

    return Profile(
        stages=stages,
        fps=_rate(p50_s(*_IMAGE)) if "vision" in timed else None,
        tokens_per_s=_rate(_p50(samples["decode"])) if samples["decode"] else None,
        ttft_ms=p50_s(*_IMAGE, "prefill") * 1e3 if "prefill" in timed else None,
        answers_per_s=_rate(p50_s("end_to_end")) if "end_to_end" in timed else None,
        energy=energy,
        energy_note=note,
        warmup=warmup,
        n=len(requests),
        peak_rss_mb=peak_rss_mb(),
        host=host,
        requests=requests,
    )


def check_counts(warmup: int, n: int, duration_s: float | None) -> None:
    """Raises UsageFault EV410."""
    for name, value, least in (("warmup", warmup, 0), ("n", n, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsageFault(
                "EV410",
                f"profile with {name} = {value!r}",
                f"{name} is a whole number of requests, {least} or more",
                "edgevlm profile --help",
            )
    if duration_s is not None and not 1 <= duration_s <= MOST_SECONDS:
        raise UsageFault(
            "EV410",
            f"profile for {duration_s:g} s",
            f"it is 1 s at least and {MOST_SECONDS // 3600} hours at most",
            "edgevlm profile --help",
        )


def _timed_stages(requests: Sequence[Times]) -> frozenset[str]:
    """The stages but `decode` that were timed: the same ones, once, in every request."""
    first: frozenset[str] | None = None
    for i, times in enumerate(requests):
        unknown = set(times) - set(STAGES)
        if unknown:
            raise ValueError(f"request {i} timed unknown stages: {', '.join(sorted(unknown))}")
        for stage, values in times.items():
            if stage != "decode" and len(values) > 1:
                raise ValueError(f"request {i} timed {stage} {len(values)} times")
        timed = frozenset(stage for stage, values in times.items() if stage != "decode" and values)
        if first is None:
            first = timed
        if timed != first:
            raise ValueError(
                f"request {i} timed other stages than request 0: {', '.join(sorted(timed ^ first))}"
            )
    return first or frozenset()


def _p50(seconds: Sequence[float]) -> float:
    return percentile(sorted(seconds), 0.5)


def _rate(seconds: float) -> float | None:
    return 1 / seconds if seconds > 0 else None
