"""Tables of Instruments. Every XML here is synthetic: written by hand in the shape of exports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.connection import Reply
from edgevlm.runtimes.coreml.ane_intervals import ane_busy
from edgevlm.runtimes.coreml.xctrace import (
    Table,
    export_argv,
    export_table,
    parse_table,
    parse_toc,
    record_argv,
)

#: synthetic
TOC = b"""<?xml version="1.0"?><trace-toc><run number="1"><info><target>
<device platform="iOS" model="iPhone 15 Pro" name="phone" os-version="18.1" uuid="U"/>
<process type="attached" name="app" pid="9"/></target><summary><duration>5.25</duration>
<end-reason>Time limit reached</end-reason><template-name>Core ML</template-name></summary></info>
<data><table schema="coreml-os-signpost"/><table schema="ane-hw-intervals-internal"/></data></run>
<run number="2"><data/></run></trace-toc>"""

#: synthetic; ids and references as in published exports: into other rows and into inner elements
ROWS = b"""<?xml version="1.0"?><trace-query-result>
<node xpath='//trace-toc[1]/run[1]/data[1]/table[34]'><schema name="ane-hw-intervals-internal">
<col><mnemonic>start-time</mnemonic><name>Start</name><engineering-type>start-time</engineering-type></col>
<col><mnemonic>duration</mnemonic><name>Duration</name><engineering-type>duration</engineering-type></col>
<col><mnemonic>process</mnemonic><name>Process</name><engineering-type>process</engineering-type></col>
<col><mnemonic>formatted-label</mnemonic><name>Label</name><engineering-type>formatted-label</engineering-type></col>
<col><mnemonic>gpu-state</mnemonic><name>State</name><engineering-type>gpu-state</engineering-type></col>
</schema>
<row><start-time id="1" fmt="00:00.500">500000000</start-time>
<duration id="2" fmt="400 ms">400000000</duration>
<process id="3" fmt="app (9)"><pid id="4" fmt="9">9</pid></process>
<formatted-label id="5" fmt="main__Op0_AneInference"><string id="6">x</string></formatted-label>
<gpu-state id="7" fmt="Active">1</gpu-state></row>
<row><start-time id="8" fmt="00:00.700">700000000</start-time><duration ref="2"/><process ref="3"/>
<formatted-label ref="5"/><gpu-state ref="7"/></row>
<row><start-time id="9" fmt="00:02.000">2000000000</start-time>
<duration id="10" fmt="1 ms">1000000</duration>
<sentinel/><formatted-label ref="5"/><gpu-state id="11" fmt="Idle">0</gpu-state></row>
</node></trace-query-result>"""


def test_a_synthetic_table_of_contents():
    first, second = parse_toc(TOC)
    assert first.schemas == ("coreml-os-signpost", "ane-hw-intervals-internal")
    assert (first.number, first.device, first.template, first.seconds) == (
        1, "phone", "Core ML", 5.25)  # fmt: skip
    assert (second.number, second.schemas, second.seconds) == (2, (), None)


def test_references_lead_to_what_was_written_before():
    table = parse_table(ROWS)
    assert table.columns == ("start-time", "duration", "process", "formatted-label", "gpu-state")
    one, two, three = table.rows
    assert two["duration"].number == one["duration"].number == 400_000_000
    assert two["process"].shown == "app (9)" and two["process"].value == "9"
    assert two["formatted-label"].shown == "main__Op0_AneInference"
    assert "process" not in three and three["gpu-state"].shown == "Idle"


def test_the_engine_was_busy_for_the_union_of_its_intervals():
    busy = ane_busy(parse_table(ROWS))
    assert (busy.intervals, busy.ms, busy.labels) == (2, 600.0, ("main__Op0_AneInference",))
    assert busy.how == "measured-device"
    assert ane_busy(parse_table(ROWS), "Idle").ms == 1.0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=12))
def test_overlaps_count_once(spans):
    """Against a count of every nanosecond."""
    rows = "".join(f"<row><start-time>{b}</start-time><duration>{n}</duration></row>"
                   for b, n in spans)  # fmt: skip
    data = f'<trace-query-result><node><schema name="ane-hw-intervals-internal"/>{rows}</node>'
    busy = ane_busy(parse_table(f"{data}</trace-query-result>".encode()))
    assert round(busy.ms * 1e6) == len({t for b, n in spans for t in range(b, b + n)})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((b'ref="2"', b'ref="99"'), "a reference to '99', which is nowhere"),
        ((b"<sentinel/>", b"<sentinel/><sentinel/>"), "6 cells in 5 columns"),
        ((b"trace-query-result", b"trace-toc"), "it is a <trace-toc>"),
        ((b"<schema ", b"<skema "), "no XML"),
        ((b'<?xml version="1.0"?>', b'<!DOCTYPE x [<!ENTITY y "z">]>'), "document type"),
    ],
)
def test_a_table_that_is_none(change, why):
    with pytest.raises(JobFault, match=f"EV381 .*{why}"):
        parse_table(ROWS.replace(*change))


def test_cells_of_cells_have_an_end():
    """Each of twenty rows is twice the one before it."""
    rows = '<row><a id="0">xx</a></row>' + "".join(
        f'<row><a id="{i}"><a ref="{i - 1}"/><a ref="{i - 1}"/></a></row>' for i in range(1, 21)
    )
    data = f'<trace-query-result><node><schema name="t"/>{rows}</node></trace-query-result>'
    with pytest.raises(JobFault, match=r"EV381 .*a cell of more than 65536 letters"):
        parse_table(data.encode())


def test_tables_of_the_same_schema_are_not_dropped():
    node = b"<node>" + ROWS.partition(b"<node ")[2].partition(b">")[2].partition(b"</node>")[0]
    with pytest.raises(JobFault, match=r"EV381 .*2 tables of one schema"):
        parse_table(ROWS.replace(b"</node>", b"</node>" + node + b"</node>"))


@pytest.mark.parametrize(
    "data", [b"", b"<trace-query-result/>", b"<trace-query-result><node/></trace-query-result>"]
)
def test_an_empty_export(data):
    with pytest.raises(JobFault, match="EV381"):
        parse_table(data)


@pytest.mark.parametrize(
    "data",
    [
        b"<trace-toc><run/></trace-toc>",
        "<trace-toc><run number='\N{SUPERSCRIPT TWO}'/></trace-toc>".encode(),
        b"<trace-toc><run number='" + b"9" * 5000 + b"'/></trace-toc>",
        ROWS,
        b"x",
    ],
    ids=range(5),
)
def test_a_table_of_contents_that_is_none(data):
    with pytest.raises(JobFault, match="EV381"):
        parse_toc(data)


@pytest.mark.parametrize("change", [(b">500000000<", b">soon<"), (b"start-time", b"begin-time")])
def test_intervals_that_are_none(change):
    with pytest.raises(JobFault, match="EV381 a table of the Neural Engine"):
        ane_busy(parse_table(ROWS.replace(*change)))
    with pytest.raises(JobFault, match="it is 'time-profile'"):
        ane_busy(Table("time-profile", (), ()))


def test_how_xctrace_is_called():
    phone = record_argv("/t.trace", 20, attach="App", device="UDID", instruments=("Core ML",),
                        template="Time Profiler")  # fmt: skip
    assert phone == ["xcrun", "xctrace", "record", "--template", "Time Profiler", "--instrument",
                     "Core ML", "--device", "UDID", "--time-limit", "20s", "--no-prompt",
                     "--output", "/t.trace", "--attach", "App"]  # fmt: skip
    mac = record_argv("/t.trace", 5, launch=("/bin/run", "--model", "m"))
    assert mac[-5:] == ["--launch", "--", "/bin/run", "--model", "m"]
    assert export_argv("/t.trace")[-1] == "--toc"
    xpath = '/trace-toc/run[@number="2"]/data/table[@schema="coreml-os-signpost"]'
    assert export_argv("/t.trace", "coreml-os-signpost", 2)[-2:] == ["--xpath", xpath]


@pytest.mark.parametrize(
    "call",
    [
        lambda: record_argv("/t", 5),
        lambda: record_argv("/t", 5, attach="a", launch=("b",)),
        lambda: record_argv("--help", 5, attach="a"),
        lambda: record_argv("/t", 5, attach="-x"),
        lambda: export_argv("/t", 'x"] | //*'),
        lambda: export_argv("/t", ""),
    ],
)
def test_words_that_would_be_something_else(call):
    with pytest.raises(ValueError):
        call()


def test_a_table_is_exported_over_a_connection():
    asked = []

    def run(argv, feed):
        asked.append(argv)
        return Reply(0, TOC if "--toc" in argv else ROWS, "")

    table = export_table("/t.trace", "ane-hw-intervals-internal", run)
    assert len(table.rows) == 3 and [argv[2] for argv in asked] == ["export", "export"]
    with pytest.raises(JobFault, match="the trace has ane-hw-intervals-internal, coreml-os"):
        export_table("/t.trace", "coreml-model-event", run)
    with pytest.raises(JobFault, match="the trace has run 1, run 2"):
        export_table("/t.trace", "coreml-model-event", run, 3)
