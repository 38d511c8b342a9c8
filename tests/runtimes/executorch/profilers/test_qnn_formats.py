"""What QNN's programs write, in each of its shapes; no file here was recorded by us."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.qnn import rows as module
from edgevlm.runtimes.executorch.qnn.names import measure_of, op_of
from edgevlm.runtimes.executorch.qnn.optrace import read_optrace
from edgevlm.runtimes.executorch.qnn.qhas import read_qhas
from edgevlm.runtimes.executorch.qnn.report_json import read_report_json
from edgevlm.runtimes.executorch.qnn.rows import QnnProfile, QnnRow, qnn_layers
from edgevlm.runtimes.executorch.qnn.table import parse_csv, read_csv
from edgevlm.runtimes.executorch.qnn.text import parse_text, read_viewer_text

SUMMARY = "optrace_qnn_htp_analysis_summary.json"


def cycles(profile):
    return {(row.name, row.id): row.cycles for row in profile.rows}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("fc:OpId_17 (cycles)", ("fc", 17)),
        ("Input OpId_2 (cycles)", ("Input", 2)),
        ("/a/b:c/Conv_token_1_2:OpId_24 (cycles)", ("/a/b:c/Conv_token_1_2", 24)),
        ("OpId_0 (cycles)", ("", 0)),
        ("RPC (execute) time", None),
        ("Accelerator (execute) time (cycles)", None),
    ],
)
def test_ops_by_their_events(event, expected):
    assert op_of(event) == expected
    assert measure_of(event, 1)[2] == (expected is not None)


def test_means_of_each_graph(sample):
    """Synthetic. Minima and the times of init stay out."""
    found = read_viewer_text(sample("viewer_means.txt"))
    assert set(found) == {"vision", "decode"}
    vision = found["vision"]
    assert cycles(vision) == {
        ("Input", 2): 8405,
        ("fc", 17): 6137,
        ("/act/Gelu_token_1_2", 23): 8567,
        ("Output", 3): 6130,
    }
    assert vision.figures["NetRun"] == 2952 and "RPC (finalize) time" not in vision.figures
    assert vision.accelerator_us == 2000 and found["decode"].accelerator_us == 300


def test_runs_of_the_htp_reader(sample):
    """Synthetic, in the shape of a public sample; means over two runs."""
    profile = read_viewer_text(sample("htp_reader.txt"))[""]
    assert profile.runs == 2 and profile.accelerator_us == 2715
    assert cycles(profile)["norm", 16] == 720337
    assert profile.figures["Number of HVX threads used"] == 4
    assert profile.figures["Accelerator (execute) time (cycles)"] == 454267


def test_linting(sample):
    """Synthetic."""
    conv, sub = read_viewer_text(sample("linting.txt"))[""].rows
    assert (conv.name, conv.cycles, conv.waited, conv.overlapped) == ("conv", 147075, 32, 85292)
    assert conv.resources == ("HVX", "HMX", "DMA") and sub.resources == ()


def test_csv(sample):
    """Synthetic. Two runs; what was finalized before is none of them."""
    profile = read_csv(sample("profile.csv"))
    assert profile.runs == 2 and profile.accelerator_us == 1800
    assert cycles(profile) == {("fc", 17): 6100, ("/a, b/Gelu_token_1", 23): 2100}
    assert profile.figures["EXECUTE"] == 3002


def test_report_json(sample):
    """Synthetic, in the shape of a public sample."""
    profile = read_report_json(sample("report.json"))
    assert profile.runs == 1 and profile.accelerator_us == 1700
    assert sum(cycles(profile).values()) == profile.figures["Accelerator (execute) time (cycles)"]
    assert "QNN (load binary) time" not in profile.figures


def test_optrace(sample):
    """Synthetic. Process 1 tells the same again; an op is on two units at once."""
    profile = read_optrace(sample("optrace.json"))
    fc, act = profile.rows
    assert (fc.name, fc.op, fc.cycles, fc.critical) == ("fc", "FullyConnected", 600, 300)
    assert (fc.resources, act.resources) == (("HMX", "HVX"), ("HVX",))
    assert profile.figures == {"HMX cycles": 400, "HVX cycles": 300, "timeline_cycles": 500}


def test_qhas(sample):
    """Synthetic; the same graph as the trace, whose cycles it has to have."""
    profile, trace = read_qhas(sample(SUMMARY)), read_optrace(sample("optrace.json"))
    assert [(r.name, r.op, r.cycles, r.critical) for r in profile.rows] == [
        (r.name, r.op, r.cycles, r.critical) for r in trace.rows
    ]
    assert profile.figures["peak_vtcm_alloc"] == 2**20
    assert profile.figures["HMX 0 utilization"] == 80 and profile.accelerator_us == 10


def test_layers_share_the_time_by_cycles(sample):
    layers = qnn_layers(read_csv(sample("profile.csv")), "vision")
    assert [(x.node, x.unit, x.how, x.cycles) for x in layers] == [
        ("fc:17", "HTP", "estimated-qnn", 6100),
        ("/a, b/Gelu:23", "HTP", "estimated-qnn", 2100),
    ]
    assert sum(x.ms for x in layers) == pytest.approx(1.8)
    assert layers[0].ms / layers[1].ms == pytest.approx(6100 / 2100)


def test_layers_share_it_by_the_critical_path_where_it_is_known(sample):
    layers = qnn_layers(read_qhas(sample(SUMMARY)), "vision")
    assert [(x.op, x.ms) for x in layers] == [
        ("FullyConnected", pytest.approx(0.0075)),
        ("Gelu", pytest.approx(0.0025)),
    ]
    trace = read_optrace(sample("optrace.json"))
    assert qnn_layers(trace, "vision") == []  # cycles alone are no time


def test_no_op_and_no_cycles():
    assert qnn_layers(QnnProfile(1, {"RPC (execute) time": 5.0}, ()), "vision") == []
    idle = QnnProfile(1, {"RPC (execute) time": 5.0}, (QnnRow("a", 1, 0.0),))
    assert [x.ms for x in qnn_layers(idle, "vision")] == [0]


@pytest.mark.parametrize("text", ["", "hello", "Execute Stats:", "Init Stats:\n    NetRun: 5 us\n"])
def test_text_without_anything_executed(text):
    with pytest.raises(JobFault, match=r"EV360 .*no Execute Stats"):
        parse_text(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no column"),
        ("a,b\n1,2\n", "no column Event Identifier, Event Level, Time"),
        ("Time,Event Level,Event Identifier\n", "no figure"),
        ("Time,Event Level,Event Identifier\nx,ROOT,y\n", "no figure"),
        ("Time,Event Level,Event Identifier\nnan,ROOT,y\n", "nan is no count"),
        ("Time,Event Level,Event Identifier\n-5,ROOT,y\n", "-5.0 is no count"),
        ('Time,Event Level,Event Identifier\n1,"' + "x" * 200_000, "field larger"),
    ],
)
def test_other_csv(text, why):
    with pytest.raises(JobFault, match=rf"EV360 .*{why}"):
        parse_csv(text)


@settings(max_examples=60)
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    for parse in (parse_text, parse_csv):
        with pytest.raises(JobFault, match="EV360"):
            parse(text)


OTHERS = ["", "[", "[]", "{}", "null", "[" * 100_000, '{"data": 1}', '{"messages": [1]}',
          '{"traceEvents": 1}', '{"traceEvents": [1]}', '{"data": {"htp_overall_summary": {}}}',
          '{"messages": [{"method": "BACKEND_EXECUTE"}]}',
          '{"messages": [{"method": "BACKEND_EXECUTE", "profilingEvents": [{"identifier": "a",'
          ' "value": "b"}]}]}',
          '{"messages": [{"method": "BACKEND_EXECUTE", "profilingEvents": [{"identifier": "a",'
          f' "value": 1{"0" * 400}}}]}}]}}',
          '{"traceEvents": [{"ph": "X", "pid": 0, "ts": -1, "dur": 1,'
          ' "args": {"QNN Op Name": 1}}]}',
          '{"traceEvents": [{"ph": "X", "pid": 0, "ts": 1, "dur": NaN,'
          ' "args": {"QNN Op Name": 1}}]}',
          ]  # fmt: skip


@pytest.mark.parametrize("text", OTHERS)
@pytest.mark.parametrize("read", [read_report_json, read_qhas, read_optrace])
def test_other_json(tmp_path, read, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(JobFault, match=r"EV360 x\.json cannot be read") as fault:
        read(path)
    assert len(fault.value.lines()) == 3


def test_none_and_too_large(tmp_path, sample, monkeypatch):
    for read in (read_csv, read_viewer_text, read_qhas):
        with pytest.raises(JobFault, match="EV360"):
            read(tmp_path / "none")
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    with pytest.raises(JobFault, match="is the most"):
        read_csv(sample("profile.csv"))


def test_every_sample_says_whose_it_is(sample):
    files = list(sample("").iterdir())
    assert len(files) == 7
    for path in files:
        text = path.read_text()
        said = json.loads(text)["note"] if path.suffix == ".json" else text
        assert "synthetic: " in said, path.name
