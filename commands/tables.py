"""What a person reads after a verb, from the same data that `--json` prints."""

from __future__ import annotations

from typing import Any

from edgevlm.commands.output import Speaker

__all__ = [
    "compile_table",
    "eval_table",
    "figure",
    "inspect_table",
    "run_line",
    "see_line",
    "verify_line",
]


def compile_table(speaker: Speaker, report: dict[str, Any]) -> None:
    tokens, answers = report["image_tokens"], report["answers"]
    rows = [
        [
            p["role"],
            f"{p['bytes'] / 1e6:.2f}",
            f"{p['macs'] / 1e6:.1f}",
            _decibel(p["drift"]["sqnr_db"]),
            p["drift"]["against"],
        ]
        for p in report["parts"]
    ]
    speaker.table(
        f"{report['bundle']}: {report['bytes'] / 1e6:.2f} MB, "
        f"{tokens['kept']} of {tokens['of']} image tokens{_cache(tokens, ', KV ')}",
        ["part", "weights MB", "MMAC", "SQNR dB", "against"],
        rows,
    )
    labelled = (
        f", {answers['correct']} of {answers['labelled']} right" if answers["labelled"] else ""
    )
    agree = (
        f"{answers['agree_with_source']} of {answers['probes']} probe answers as the source gives "
        f"them{labelled}; "
    )
    speaker.say(
        f"{agree if answers['probes'] else ''}{report['seconds']:.1f} s, "
        f"peak {report['peak_rss_mb']:.0f} MB"
    )
    for other in report["also"]:
        speaker.say(_also(other))
    speaker.say(f"memory: {report['memory']['text']}")
    for note in report["notes"]:
        speaker.say(f"note: {note}")
    for i, command in enumerate(report["next"]):
        speaker.say(f"{'      ' if i else 'next: '}{command}")


def _also(other: dict[str, Any]) -> str:
    """The same model for a second runtime of the device."""
    where = ", ".join(f"{name} {version}" for name, version in other["sdk"].items())
    worst = min(drift["sqnr_db"] for drift in other["drift"].values())
    same = other["answers"]
    return (
        f"also {other['runtime']} ({where}): {other['bytes'] / 1e6:.2f} MB, at least "
        f"{_decibel(worst)} dB against its own graphs, {same['agree']} of {same['probes']} answers "
        "the same"
    )


def run_line(speaker: Speaker, report: dict[str, Any]) -> None:
    stages, tokens = report["stages"], report["image_tokens"]
    count = report["tokens"]
    speaker.say(
        f"{count} token{'s' * (count != 1)}, {stages['end_to_end']:.1f} ms "
        f"(prefill {figure(stages.get('prefill'), '.1f')} ms), "
        f"{tokens['kept']} of {tokens['of']} image tokens",
        "dim",
    )


def see_line(speaker: Speaker, report: dict[str, Any]) -> None:
    """Of a model without words: what it sees on stdout, the figures on stderr."""
    if "map" in report:
        seen = report["map"]
        lines = [
            f"map {' x '.join(map(str, seen['shape'][1:]))}: "
            f"min {seen['min']:.4g}, mean {seen['mean']:.4g}, max {seen['max']:.4g}"
            + (f"; written to {seen['saved']}" if seen["saved"] else "")
        ]
    else:
        lines = [f"{c['label'] or c['class']} {c['value']:.4g}" for c in report["classes"]]
    if not speaker.as_json:
        print(*lines, sep="\n", flush=True)
    speaker.say(f"{report['stages']['end_to_end']:.1f} ms", "dim")


def eval_table(speaker: Speaker, report: dict[str, Any]) -> None:
    sides = [report, *([report["masked"]] if "masked" in report else [])]
    names = list(report["kinds"])
    scores = [[*(side["kinds"][name] for name in names), side["overall"]] for side in sides]
    rows = [
        [name, *(cell for s in of for cell in _share(s)), of[0]["n"]]
        for name, of in zip([*names, "overall"], zip(*scores, strict=True), strict=True)
    ]
    titles = ["base %", "95 % interval", "base + head mask %", "95 % interval"]
    speaker.table(
        f"{report['dataset']} {report['split']}: {report['metric']}",
        [
            "classes" if "classes" in report else "questions",
            *(titles if "masked" in report else ["right %", "95 % interval"]),
            "n",
        ],
        rows,
    )
    if "classes" in report:
        _told_classes(speaker, report)


def _told_classes(speaker: Speaker, report: dict[str, Any]) -> None:
    """Which rows the figures are about, wherever it is not simply all of them."""
    classes = report["classes"]
    asked, known = len(classes["asked"]), classes["of_bundle"]
    if asked < classes["of_dataset"]:
        speaker.say(
            f"shown: {report['n']} pictures of {asked} classes; {report['dataset']} "
            f"{report['split']} has {classes['rows_of_split']} pictures of "
            f"{classes['of_dataset']} classes"
            + ("" if "masked" in report else ", and the bundle knows no others")
        )
    if "masked" in report:
        speaker.say(
            f"base: the likeliest of the bundle's {known} classes; base + head mask: the likeliest "
            f"of the {asked} asked for"
        )


def _share(score: dict[str, Any]) -> tuple[str, str]:
    return f"{100 * score['accuracy']:.2f}", f"{100 * score['low']:.2f} - {100 * score['high']:.2f}"


def inspect_table(speaker: Speaker, report: dict[str, Any], *, axes: bool, ops: bool) -> None:
    contract = report["contract"]
    rows = [
        [
            p["role"],
            p["nodes"],
            f"{p['macs'] / 1e6:.1f}",
            f"{p['weight_bytes'] / 1e6:.2f}",
            _ports(p["inputs"]),
        ]
        for p in report["parts"]
    ]
    speaker.table(
        f"{report['source']['name']} ({contract['family']}): "
        f"{_schedule(report['image_tokens'])}, prompt "
        f"{contract['prompt_capacity']}, KV {contract['kv_capacity']} rows"
        f"{_cache(report['image_tokens'], ', ')}",
        ["part", "nodes", "MMAC", "weights MB", "inputs"],
        rows,
    )
    for part in report["parts"]:
        if ops:
            speaker.table(
                f"{part['role']}: ops", ["op", "nodes"], [[k, v] for k, v in part["ops"].items()]
            )
        if axes:
            speaker.table(
                f"{part['role']}: axes",
                ["value", "dimensions"],
                [[k, ", ".join(v)] for k, v in part["axes"].items()],
            )
    for step in report.get("passes", ()):
        state = "changed" if step["changed"] else "nothing to do"
        speaker.say(f"  {step['name']:<20} {step['effect']:<12} {state}")


def verify_line(speaker: Speaker, report: dict[str, Any]) -> None:
    goldens = report["goldens"]
    answers = f", {goldens['agree']} of {goldens['of']} golden answers" if goldens else ""
    speaker.say(f"{report['bundle']}: {report['files']} files unchanged{answers}")
    if report["elsewhere"]:
        others = ", ".join(report["elsewhere"])
        speaker.say(f"its goldens were not answered: {others} run in another program")


def _ports(ports: dict[str, Any], shown: int = 3) -> str:
    named = [f"{name} {shape}" for name, (_, shape) in list(ports.items())[:shown]]
    more = len(ports) - shown
    return ", ".join([*named, f"{more} more"] if more > 0 else named)


def _cache(tokens: dict[str, Any], before: str) -> str:
    """Of all layers at capacity; nothing for a model without a decoder."""
    if "kv_bytes" not in tokens:
        return ""
    return f"{before}{tokens['kv_bytes'] / 1e6:.2f} MB {tokens['kv_dtype']}"


def figure(value: float | None, spec: str = ".0f") -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else format(value, spec)


def _decibel(value: float | None) -> str:
    """200 stands for no difference; None for a reference that is zero or not finite."""
    if value is None:
        return "-"
    return "exact" if value >= 200 else f"{value:.1f}"


def _schedule(tokens: dict[str, Any]) -> str:
    """How many stay, and the sites where tokens leave at several or in the language model."""
    sites = [f"{s['tokens']} at {s['at']}" for s in tokens["schedule"]]
    told = f" ({', '.join(sites)})" if len(sites) > 1 or "llm" in "".join(sites) else ""
    return f"{tokens['kept']} of {tokens['of']} image tokens{told}"
