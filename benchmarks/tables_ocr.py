"""A real text recogniser: DASQ's weights against the best with a zero point, and what it reads."""

from __future__ import annotations

from statistics import mean
from typing import Any

from page import grid, load, provenance

OTHER = "asymmetric"
CHECK = "asymmetric, range"
NAMES = {
    "float": "float",
    "int8": "int8",
    "symmetric": "symmetric",
    CHECK: "asymmetric, least to largest",
    OTHER: "asymmetric",
    "dasq": "DASQ, in turns",
    "dasq, by row": "DASQ, in turns, by row",
    "joint": "DASQ, jointly",
    "joint, by row": "DASQ, jointly, by row",
}
PARTS = {
    "none": "nothing",
    "depthwise": "depthwise convolutions",
    "every": "every layer",
    "matmul": "MatMuls, the rest int8",
}
BLANK = "matmul, blank int8"
SURE = 0.01


def section() -> str:
    result = load("ocr")
    every = [x for x in result["weights"] if x["ways"]]
    bits = list(dict.fromkeys(y["bits"] for x in every for y in x["ways"]))
    ways = [w for w in NAMES if any(y["way"] == w for x in every for y in x["ways"])]
    files = {k: m["file"] for k, m in result["models"].items()}
    cells = {
        (name, b): {w: _layers(every, file, w, b) for w in ways}
        for name, file in files.items()
        for b in bits
    }
    headings = [f"{name}, {b} bits" for name, b in cells]
    errors = [[NAMES[w], *(_error(cells[c][w]) for c in cells)] for w in ways]
    costs = [[NAMES[w], *(_cost(cells[c][w], result) for c in cells)] for w in ways]
    return "\n\n".join(
        [
            "## DASQ on a text recogniser and a detector",
            f"PP-OCRv4 of `{result['package']}`: {_counts(result)}. Error of the weights relative "
            "to their squares, the mean over layers; and in how many layers it is below the best "
            "asymmetric.",
            grid(["weights", *headings], errors),
            _where(every, ways, bits),
            "Work in 10^9 bit operations at activations of "
            f"{result['activation_bits']} bits ({_inputs(result)}; without depthwise), and bits "
            "stored a weight:",
            grid(["weights", *headings], costs),
            _costs(cells, every, result),
            "### What it reads",
            _about(result, bits),
            _readings(result, bits),
            _blank(result, bits),
            provenance(result),
        ]
    )


def _layers(every: list[dict], file: str, way: str, bits: int) -> list[dict[str, Any]]:
    """Of each layer: this way's figures, the opponent's error, the layer's sizes."""
    found = []
    for x in every:
        of = {y["way"]: y for y in x["ways"] if y["bits"] == bits}
        if x["model"] == file:
            size = {k: x[k] for k in ("channels", "inputs", "macs")}
            found.append({**of[way], **size, "other": of[OTHER]["error"]})
    return found


def _error(rows: list[dict]) -> str:
    if rows[0]["way"] == OTHER:
        return f"{mean(r['error'] for r in rows):.4f}"
    return f"{mean(r['error'] for r in rows):.4f}, {_below(rows)} of {len(rows)}"


def _below(rows: list[dict]) -> int:
    return sum(r["error"] < r["other"] for r in rows)


def _cost(rows: list[dict], result: dict[str, Any]) -> str:
    return f"{_work(rows, result):.1f}, {_stored(rows):.2f}"


def _work(rows: list[dict], result: dict[str, Any]) -> float:
    return sum(r["product_bits"] * r["macs"] for r in rows) * result["activation_bits"] / 1e9


def _stored(rows: list[dict]) -> float:
    sizes = [r["channels"] * r["inputs"] for r in rows]
    return sum(r["stored_bits"] * s for r, s in zip(rows, sizes, strict=True)) / sum(sizes)


def _counts(result: dict[str, Any]) -> str:
    found = []
    for name, model in result["models"].items():
        mine = [x for x in result["weights"] if x["model"] == model["file"]]
        found.append(
            f"{sum(not x['depthwise'] for x in mine)} layers of the {name} and "
            f"{sum(x['depthwise'] for x in mine)} depthwise"
        )
    return ", ".join(found)


def _inputs(result: dict[str, Any]) -> str:
    return ", ".join("x".join(map(str, m["input"])) for m in result["models"].values())


def _where(every: list[dict], ways: list[str], bits: list[int]) -> str:
    lost = []
    for way in (w for w in ways if w.startswith(("dasq", "joint"))):
        for b in bits:
            of = [(x, {y["way"]: y for y in x["ways"] if y["bits"] == b}) for x in every]
            bad = [x for x, y in of if y[way]["error"] >= y[OTHER]["error"]]
            size = sum(x["channels"] * x["inputs"] for x in bad)
            whole = sum(x["channels"] * x["inputs"] for x in every)
            longest = max((x["inputs"] for x in bad), default=0)
            lost.append([NAMES[way], b, len(bad), longest or "", f"{100 * size / whole:.2f}"])
    return (
        "`in turns` is the printed algorithm, its best round kept; `jointly` our search of its "
        "form (2 % outliers of 4 bits, ratio a power of two). `by row`: 2 % of every row, at least "
        "one, and it folds into int8 (8 bits a weight in memory then). A zero point fits the few "
        "weights of a short row well; where DASQ is not below:\n\n"
        + grid(["weights", "bits", "layers not below", "longest row", "% of all weights"], lost)
    )


def _costs(cells: dict, every: list[dict], result: dict[str, Any]) -> str:
    off = sum(y["zero_points"] for x in every for y in x["ways"] if y["way"] == OTHER)
    channels = sum(len({y["bits"] for y in x["ways"]}) * x["channels"] for x in every)
    none = sum(y["zero_points"] for x in every for y in x["ways"] if y["way"].startswith("joint"))
    deep = [x for x in result["weights"] if x["depthwise"]]
    share = sum(x["macs"] for x in deep) / sum(x["macs"] for x in result["weights"])
    worth = []
    for (name, b), of in cells.items():
        more = _stored(of["joint"]) - _stored(of[OTHER])
        gain = mean(r["error"] for r in of["joint"]) / mean(r["error"] for r in of[OTHER])
        worth.append(f"{name}, {b} bits: error x{gain:.2f} for {more:.2f} bits (x{4**-more:.2f})")
    strong = " and ".join(
        f"{100 * (r['most'] - 1):.2f} % at {r['bits']} bits" for r in result["opponent"]["rows"]
    )
    ranged = [(y, x) for x in every for y in x["ways"] if y["way"] == CHECK]
    not_above = sum(
        z["error"] <= y["error"]
        for y, x in ranged
        for z in x["ways"]
        if z["way"] == OTHER and z["bits"] == y["bits"]
    )
    return (
        f"Zero points that are not 0: {off} of {channels} channels asymmetric, {none} with DASQ. "
        "Stored are scales, zero points, shifts and places of outliers too. As many more bits for "
        "every weight would change an error by 4 to the minus so many, here in brackets; jointly, "
        f"{'; '.join(worth)}. Depthwise convolutions are symmetric int8 in every way: "
        f"{100 * share:.1f} % of products, mean error {mean(x['int8'] for x in deep):.1e}. The "
        "asymmetric opponent searches zero points and scales: at most "
        f"{strong} above a scan of 2000 scales at every zero point, on "
        f"{result['opponent']['channels']} channels, and not above least to largest (scale and "
        f"zero point of onnxruntime.quantization) in {not_above} of {len(ranged)} cases."
    )


def _about(result: dict[str, Any], bits: list[int]) -> str:
    rows = result["text"]["rows"]
    right = rows[0]["truth"]["lines"]["accuracy"]
    least = [r for r in rows if r["part"] == "every" and r["bits"] == min(bits)]
    best = max(r["float"]["lines"]["accuracy"] for r in least)
    return (
        f"{result['n']} drawn lines (seed {result['seed']}, {len(result['fonts'])} fonts; float "
        f"reads {100 * right:.1f} % exactly). Weight rounding only: activations are float, nothing "
        "is calibrated. Lines read as float reads them, in %, with Wilson's 95 % interval; "
        "characters: 1 - edit distance to float's reading over length, with a bootstrap interval; "
        "right: lines as drawn. **+** and **-**: more or fewer lines as float than the best "
        f"asymmetric, McNemar p < {SURE}, not corrected; that is for other lines, not for other "
        f"models. With every layer at {min(bits)} bits the best way reads {100 * best:.1f} % of "
        "lines."
    )


def _readings(result: dict[str, Any], bits: list[int]) -> str:
    rows = [
        [
            PARTS[r["part"]],
            r["bits"],
            NAMES[r["way"]],
            _share(r["float"]["lines"], "accuracy") + _mark(r),
            _share(r["float"]["characters"], "mean"),
            _share(r["truth"]["lines"], "accuracy"),
        ]
        for r in result["text"]["rows"]
        if r["part"] != BLANK and (r["part"] != "every" or r["bits"] != min(bits))
    ]
    return grid(["rounded", "bits", "weights", "lines", "characters", "right"], rows)


def _share(x: dict[str, float], key: str) -> str:
    return f"{100 * x[key]:.1f} ({100 * x['low']:.1f}-{100 * x['high']:.1f})"


def _mark(row: dict[str, Any]) -> str:
    other = row.get("against_asymmetric")
    if other is None or other["p"] >= SURE:
        return ""
    return " **+**" if other["only_ours"] > other["only_theirs"] else " **-**"


def _blank(result: dict[str, Any], bits: list[int]) -> str:
    error = {(r["way"], r["bits"]): r["error"] for r in result["text"]["blank"]}
    lines = {
        (r["way"], r["bits"]): _share(r["float"]["lines"], "accuracy") + _mark(r)
        for r in result["text"]["rows"]
        if r["part"] == BLANK
    }
    ways = list(dict.fromkeys(way for way, _ in error))
    rows = [
        [NAMES[w], *(f"{error[w, b]:.4f}" for b in bits), *(lines[w, b] for b in bits)]
        for w in ways
    ]
    headings = [f"{what}, {b} bits" for what in ("blank's error", "lines") for b in bits]
    return (
        "With MatMuls alone much hangs on one channel, that of CTC's blank in the classifier: its "
        "error adds to every position. So again with that channel at int8:\n\n"
        + grid(["weights", *headings], rows)
    )
