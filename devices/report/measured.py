"""What `edgevlm profile --json` said, as far as a report shows it.

Kept figures and files of `--profile` go through the same schema. A prediction has the same shape;
its `how` says what it is, and that label goes wherever the figure goes.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from edgevlm.devices.report.loose import Amount, Count, How, Loose, Measure, Moment, Name, Text

__all__ = ["Host", "Layer", "Op", "Profile", "Stage", "State", "States", "Thermal", "is_measured"]


class Stage(Loose):
    """Milliseconds of one stage; a prediction has one figure and no percentiles."""

    p50_ms: Amount = Field(validation_alias=AliasChoices("p50_ms", "ms"))
    p90_ms: Amount | None = None
    p99_ms: Amount | None = None
    n: Count | None = None
    how: How


class Power(Loose):
    meter: Name = ""
    how: How | None = None
    watts: Amount | None = None
    peak_watts: Amount | None = None
    idle_w_before: Amount | None = None
    idle_w_after: Amount | None = None
    joules_above_idle_per_answer: Measure | None = None
    joules_per_image: Amount | None = None
    fps_per_watt: Amount | None = None


class Host(Loose):
    cpu_model: Name | None = None
    architecture: Name | None = None
    cores: Count | None = None
    ram_gib: Amount | None = None
    os: Name | None = None
    kernel: Name | None = None
    python: Name | None = None
    governor: Name | None = None
    clock_mhz: Amount | None = None
    load_average: tuple[Amount, Amount, Amount] | None = None


class DeviceRef(Loose):
    """The device that ran, where the profile says it."""

    id: Name | None = None
    name: Name | None = None
    reached: Name = "local"  # or over ssh, adb
    cuts: Count = 0  # of the link on the way


class Heat(Loose):
    at_s: Amount
    celsius: Measure
    zone: Name = ""


class Thermal(Loose):
    series: Annotated[tuple[Heat, ...], Field(max_length=20_000)] = ()
    throttled: bool | None = None
    why: Text | None = None


class State(Loose):
    """Clocks and mode of a machine at one moment."""

    governor: Name | None = None
    power_mode: Name | None = None
    cpu_mhz: Annotated[tuple[Amount | None, ...], Field(max_length=4096)] | None = None
    cpu_most_mhz: Amount | None = None
    units_mhz: Annotated[dict[Name, Amount | None], Field(max_length=64)] = {}


class States(Loose):
    before: State = State()
    after: State = State()


class Sustained(Loose):
    """The first third of the requests against the last."""

    first_ms: Amount
    last_ms: Amount
    ratio: Amount | None = None
    slower: bool = False


class Checked(Loose):
    """A stage of this machine, predicted and measured."""

    ratio: Amount | None = None  # measured by predicted


class ThisMachine(Loose):
    stages: Annotated[dict[Name, Checked], Field(max_length=32)] = {}


class Op(Loose):
    """One op of one part, all its nodes together."""

    role: Name
    op: Name
    nodes: Count
    ms: Amount
    how: How


class Layer(Loose):
    """One node of one part, and the unit that ran it, in the runtime's word."""

    role: Name
    node: Name
    op: Name
    unit: Name | None = None
    ms: Amount
    how: How


def _known_stages(stages: Any) -> Any:
    """Without those whose time nobody knows: a prediction has them."""
    if not isinstance(stages, dict):
        return stages
    return {k: s for k, s in stages.items() if not _unknown(s, "p50_ms", "ms")}


def _known_layers(layers: Any) -> Any:
    if not isinstance(layers, list):
        return layers
    return [layer for layer in layers if not _unknown(layer, "ms")]


def _unknown(entry: Any, *names: str) -> bool:
    """Whether it says that it has no time; one that says nothing is broken."""
    told = [entry[name] for name in names if isinstance(entry, dict) and name in entry]
    return bool(told) and told[0] is None


class Profile(Loose):
    """One profile; everything but the stages may be absent."""

    stages: Annotated[
        dict[Name, Stage], Field(min_length=1, max_length=32), BeforeValidator(_known_stages)
    ]
    digest: Name | None = None
    bundle: Text | None = None  # as it was called: a path, which no page shows
    fps: Amount | None = None
    ttft_ms: Amount | None = None
    tokens_per_s: Amount | None = None
    answers_per_s: Amount | None = None
    power: Power | None = None
    energy_j_per_answer: Amount | None = None
    energy_note: Text = ""
    warmup: Count | None = None
    n: Count | None = None
    peak_rss_mb: Amount | None = None
    host: Host = Host()
    tools: Annotated[dict[Name, Name | None], Field(max_length=64)] = {}
    device: DeviceRef = DeviceRef()
    thermal: Thermal | None = None
    state: States | None = None
    sustained: Sustained | None = None
    ops: Annotated[tuple[Op, ...], Field(max_length=20_000)] = ()
    layers: Annotated[
        tuple[Layer, ...], Field(max_length=100_000), BeforeValidator(_known_layers)
    ] = ()
    at: Moment | None = None
    ops_at: Moment | None = None  # where ops and layers are of an earlier profile
    at_least: bool = False  # of a prediction: something unknown is left out of the times
    confidence: Name | None = None  # of a prediction: of the least sure fact that it rests on
    notes: Annotated[tuple[Text, ...], Field(max_length=200)] = ()
    this_machine: ThisMachine | None = None  # how far the same formulas are off where it ran

    @property
    def how(self) -> str:
        """Of its times; where stages differ, the least certain: a prediction hides behind none."""
        labels = [stage.how for stage in self.stages.values()]
        return next((how for how in labels if not is_measured(how)), labels[0])

    @property
    def answer_ms(self) -> float | None:
        """What a user waits for: to the first token, or, without words, to the end."""
        whole = self.stages.get("end_to_end")
        return self.ttft_ms if self.ttft_ms is not None else whole.p50_ms if whole else None

    @property
    def place(self) -> str:
        """Where it ran, in words; two profiles of one place can be compared."""
        cores = f", {self.host.cores} cores" if self.host.cores else ""
        host = f"{self.host.cpu_model or 'an unnamed machine'}{cores}"
        if is_measured(self.how) and self.device.reached == "local":
            return host
        return self.device.name or self.device.id or host


def is_measured(how: str) -> bool:
    return how.startswith("measured-")
