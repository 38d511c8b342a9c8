"""The sequence of Qualcomm's programs, with stand-ins for all of them: synthetic from end to end.

What is real is the way: files copied, a program run apart from its link, its log fetched, programs
of this host called with it, everything removed. Whether Qualcomm's own take these words is not
shown by it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from micro.links import Here

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.session import reach
from edgevlm.runtimes.executorch.qnn.run import QnnAsked, make_context, profile_context
from edgevlm.runtimes.executorch.qnn.sequence import SOCS, device_libraries
from edgevlm.runtimes.executorch.sdk import QNN_COMPILES, QNN_PROFILES, QnnSdk, SdkMissing

SOC = SOCS["sm8750"]
# Both write down how they were called, in a line for each word.
NET_RUN = """#!/bin/sh
printf '%s\\n' "$@" > {seen}/net-run; pwd > {seen}/folder; ls > {seen}/files
cp config.json backend_extension_config.json {seen}
[ -n "$LD_LIBRARY_PATH" ] && [ -f "$LD_LIBRARY_PATH/libQnnHtpV79Skel.so" ] || exit 3
mkdir -p output && echo log > output/qnn-profiling-data_0.log
"""
VIEWER = """#!/bin/sh
printf '%s\\n' "$@" >> {seen}/viewer
while [ $# -gt 1 ]; do [ "$1" = --output ] && out=$2; shift; done
case "$out" in *.csv) cp {samples}/profile.csv "$out";; *) cp {samples}/optrace.json "$out"
cp {samples}/optrace_qnn_htp_analysis_summary.json "${{out%.json}}_qnn_htp_analysis_summary.json"
esac
"""
GENERATOR = """#!/bin/sh
printf '%s\\n' "$@" > {seen}/generator
cp *.json {seen}
while [ $# -gt 1 ]; do
[ "$1" = --binary_file ] && name=$2; [ "$1" = --output_dir ] && dir=$2; shift; done
echo made > "$dir/$name.bin"
"""


class Stand:
    def __init__(self, root: Path, samples: Path) -> None:
        self.sdk, self.seen, self._samples = QnnSdk(root / "sdk", "2.37"), root / "seen", samples
        self.seen.mkdir()
        for each in (*QNN_COMPILES, *QNN_PROFILES):
            self.put(each, "library")
        for path in device_libraries(self.sdk, SOC):
            self.put(str(path.relative_to(self.sdk.root)), path.name)
        self.put("bin/aarch64-android/qnn-net-run", NET_RUN)
        self.put("bin/x86_64-linux-clang/qnn-profile-viewer", VIEWER)
        self.put("bin/x86_64-linux-clang/qnn-context-binary-generator", GENERATOR)

    def put(self, name: str, text: str) -> None:
        path = self.sdk.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("#!"):
            text = text.format(seen=self.seen, samples=self._samples)
        path.write_text(text)
        path.chmod(0o755)

    def words(self, name: str) -> list[str]:
        return (self.seen / name).read_text().splitlines()


@pytest.fixture
def stand(tmp_path, sample):
    return Stand(tmp_path, sample(""))


@pytest.fixture
def here(tmp_path):
    (tmp_path / "device").mkdir()
    return Here(tmp_path / "device")


@pytest.fixture
def device(here):
    return reach(here, patience_s=2.0, sleep=lambda _: None)


@pytest.fixture
def asked(tmp_path):
    context = tmp_path / "vision.serialized.bin"
    context.write_bytes(b"context")
    return QnnAsked(context, SOC, [b"\1\2", b"\3"], runs=7)


def test_cycles_of_a_context(stand, here, device, asked):
    seen = profile_context(device, asked, stand.sdk)
    assert seen.table.runs == 2 and seen.table.accelerator_us == 1800
    assert seen.trace is None and seen.summary is None
    words = stand.words("net-run")
    assert words[words.index("--retrieve_context") + 1].endswith("/context.bin")
    assert words[words.index("--num_inferences") + 1] == "7"
    assert words[-2:] == ["--profiling_level", "detailed"]
    assert {"0.raw", "1.raw", "input_list.txt"} <= set(stand.words("files"))
    config = json.loads((stand.seen / "config.json").read_text())
    assert config["devices"][0]["soc_id"] == 69
    extensions = json.loads((stand.seen / "backend_extension_config.json").read_text())
    assert extensions["backend_extensions"]["shared_library_path"].endswith(
        "libQnnHtpNetRunExtensions.so"
    )
    assert here.left() == []  # nothing stays on the device


def test_an_op_trace(stand, device, asked, tmp_path):
    schematic = tmp_path / "vision_schematic.bin"
    schematic.touch()
    seen = profile_context(device, QnnAsked(**vars(asked) | {"schematic": schematic}), stand.sdk)
    assert stand.words("net-run")[-2:] == ["--profiling_option", "optrace"]
    assert seen.trace.figures["timeline_cycles"] == 500 and seen.summary.accelerator_us == 10
    words = stand.words("viewer")
    assert str(schematic) in words and any(w.endswith("OptraceProfilingReader.so") for w in words)


def test_a_graph_becomes_a_context(stand, tmp_path):
    graph = tmp_path / "forward_0.dlc"
    graph.touch()
    made = make_context(graph, SOC, tmp_path, stand.sdk)
    assert made == tmp_path / "forward_0.serialized.bin" and made.read_text() == "made\n"
    words = stand.words("generator")
    assert words[words.index("--dlc_path") + 1] == str(graph)
    assert words[-4:] == ["--profiling_level", "detailed", "--profiling_option", "optrace"]


def test_a_program_on_the_device_that_fails(stand, here, device, asked):
    stand.put("bin/aarch64-android/qnn-net-run", "#!/bin/sh\necho 'Error: no HTP here' >&2; exit 5")
    with pytest.raises(JobFault, match=r"EV437 .*status 5: .*Error: no HTP here"):
        profile_context(device, asked, stand.sdk)
    assert here.left() == []


def test_one_that_writes_no_log(stand, device, asked):
    stand.put("bin/aarch64-android/qnn-net-run", "#!/bin/sh\nexit 0")
    with pytest.raises(JobFault, match=r"EV363 qnn-net-run .*wrote no output/qnn-profiling-data"):
        profile_context(device, asked, stand.sdk)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\necho 'bad log' >&2; exit 1", "status 1: bad log"),
        ("#!/bin/sh\nexit 0", "status 0: it wrote no profile.csv"),
        ("#!/none/such", ".*No such file"),
    ],
)
def test_a_program_of_this_host_that_fails(stand, device, asked, script, why):
    stand.put("bin/x86_64-linux-clang/qnn-profile-viewer", script)
    with pytest.raises(JobFault, match=f"EV363 qnn-profile-viewer of Qualcomm's SDK failed: {why}"):
        profile_context(device, asked, stand.sdk)


def test_without_the_sdk(device, asked, monkeypatch):
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    with pytest.raises(SdkMissing, match="EV362"):
        profile_context(device, asked)


def test_an_sdk_older_than_the_chip(stand, device, asked):
    newer = QnnAsked(**vars(asked) | {"soc": SOCS["sm8850"]})
    with pytest.raises(SdkMissing, match=r"EV362 .*nothing for HTP v81"):
        profile_context(device, newer, stand.sdk)
