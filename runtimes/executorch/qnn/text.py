"""Text of qnn-profile-viewer, of either of its readers.

    Execute Stats (Average):                    Execute Stats:      libQnnHtpProfilingReader.so
    Graph 0 (model):                            Execute Stat 1
        NetRun: 2952 us                         RPC (execute) time : 2717302  us
        Backend (RPC (execute) time): 2920 us   NAME:OpId_16 (cycles) : 720336  cycles
        Backend (Accelerator (execute) time       Wait (Scheduler) time : 629  cycles   linting
         (cycles)): 29239 cycles                  Overlap time : 4770  cycles
            NAME:OpId_16 (cycles): 720 cycles     Resources : HVX, HMX, DMA

The first has means over all runs, the other one each run. Only what was executed is taken: times of
init and finalize stand before it. Samples that this was written after, none of them ours:
https://gist.github.com/hushell/23e68eef236673655db4635b80297c40 (runs),
https://github.com/quic/aimet, load_profiling_cost (means with ops),
https://docs.qualcomm.com/bundle/publicresource/topics/80-63442-10/htp_backend.html (linting).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from edgevlm.runtimes.executorch.qnn.names import op_of
from edgevlm.runtimes.executorch.qnn.rows import (
    QnnProfile,
    QnnRow,
    QnnRun,
    averaged,
    read_text,
    unreadable,
)

__all__ = ["parse_text", "read_viewer_text"]

MOST_LINES, MOST_LINE = 2_000_000, 4096  # lines, and characters of one that is read
SECTION = re.compile(r"(?P<name>[\w -]+ Stats)(?: \((?P<which>\w+)\))?:")
RUN = re.compile(r"Execute Stat \d+:?")
GRAPH = re.compile(r"(?:-+ )?Graph \d+ \((?P<name>.*)\):")
#: "(.*\S)": a name has colons itself
FIGURE = re.compile(r"(?P<name>.*\S)\s*:\s*(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>us|cycles|count)")
WRAPPED = re.compile(r"Backend \((?P<name>.*)\)")
BESIDE = {
    "Wait (Scheduler) time": "waited",
    "Overlap time": "overlapped",
}
RESOURCES = re.compile(r"Resources\s*:(?P<names>.*)")


def read_viewer_text(path: Path) -> dict[str, QnnProfile]:
    """By the name of the graph ("" where it has none). Raises JobFault EV360."""
    return parse_text(read_text(path), path.name)


def parse_text(text: str, name: str = "the text of qnn-profile-viewer") -> dict[str, QnnProfile]:
    """Raises JobFault EV360 where nothing was executed."""
    lines = text.splitlines()
    if len(lines) > MOST_LINES:
        raise unreadable(name, f"it has more than {MOST_LINES} lines")
    graphs: dict[str, list[QnnRun]] = {}
    reading = _Reading(graphs)
    for line in lines:
        if len(line) <= MOST_LINE:
            reading.take(line.strip())
    found = {graph: runs for graph, runs in graphs.items() if any(r.figures for r in runs)}
    if not found:
        raise unreadable(name, "it has no Execute Stats with figures")
    return {graph: averaged(runs, name) for graph, runs in found.items()}


class _Reading:
    """Where in the text it is."""

    def __init__(self, graphs: dict[str, list[QnnRun]]) -> None:
        self._graphs = graphs
        self._within = False  # means of what was executed, or the runs
        self._run: QnnRun | None = None

    def take(self, line: str) -> None:
        if section := SECTION.fullmatch(line):
            which = section["which"] in (None, "Average")
            self._within = section["name"] == "Execute Stats" and which
            self._run = None
        elif not self._within:
            return
        elif graph := GRAPH.fullmatch(line):
            self._begin(graph["name"])
        elif RUN.fullmatch(line):
            self._begin("")
        elif (names := RESOURCES.fullmatch(line)) and self._run and self._run.rows:
            words = tuple(word.strip() for word in names["names"].split(",") if word.strip())
            self._run.rows[-1] = replace(self._run.rows[-1], resources=words)
        elif figure := FIGURE.fullmatch(line):
            self._figure(figure["name"], float(figure["value"]))

    def _begin(self, graph: str) -> None:
        self._run = QnnRun()
        self._graphs.setdefault(graph, []).append(self._run)

    def _figure(self, name: str, value: float) -> None:
        if self._run is None:
            self._begin("")
        run = self._run
        if name in BESIDE and run.rows:
            run.rows[-1] = replace(run.rows[-1], **{BESIDE[name]: value})
        elif op := op_of(name):
            run.rows.append(QnnRow(op.name, op.id, value))
        elif not name.startswith("Overlap"):
            wrapped = WRAPPED.fullmatch(name)
            run.figures[wrapped["name"] if wrapped else name] = value
