"""A compiled part: the properties it runs with, and that no memory is shared by surprise."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.openvino import open_part as module
from edgevlm.runtimes.openvino.open_part import OpenPart, OpenVinoSettings, compile_part, reason


@pytest.fixture(scope="module")
def twice(graph, saved):
    """y = 2x and z = x, with an output that could be the input's own memory."""
    return saved(graph("(float[2,3] x) => (float[2,3] y, float[6] z) "
                       "{ y = Add(x, x) z = Reshape(x, s) }", s=np.array([6])))  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "threads"),
    [({}, None), ({"threads": 0}, None), ({"threads": 1}, 1), ({"threads": 2}, 2)],
)
def test_what_it_runs_with(twice, settings, threads):
    told = compile_part(twice, settings).get_property
    assert told("INFERENCE_NUM_THREADS") == (threads or len(os.sched_getaffinity(0)))
    assert told("INFERENCE_PRECISION_HINT").type_name == "f32"
    assert told("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0
    assert told("NUM_STREAMS") == 1 and told("EXECUTION_DEVICES") == ["CPU"]
    assert told("ENABLE_CPU_PINNING") is False and told("PERF_COUNT") == "NO"


@pytest.mark.parametrize(
    "settings", [{"threads": -1}, {"threads": 257}, {"threads": "2"}, {"threads": True}, {"x": 1}]
)
def test_settings_out_of_range_are_refused(twice, settings):
    with pytest.raises(JobFault, match=r"EV322 settings of artifact part\.onnx"):
        compile_part(twice, settings)


def test_what_was_answered_stays_when_it_runs_again(twice):
    part = OpenPart(compile_part(twice, {"threads": 1}))
    first = part.run([np.ones((2, 3), np.float32)])
    second = part.run([np.full((2, 3), 5, np.float32)])
    assert (first[0] == 2).all() and (first[1] == 1).all()
    assert (second[0] == 10).all() and (second[1] == 5).all()


@pytest.mark.parametrize("limit", [1, 10**9])
def test_inputs_are_read_where_they_are_and_never_written(graph, saved, monkeypatch, limit):
    """Wrapped or copied: the same array with new numbers, another array, a strided one."""
    monkeypatch.setattr(module, "WRAPPED_BYTES", limit)
    chain = graph("(float[64,64] x) => (float[64,64] y) { a = Relu(x) b = Add(a, a) y = Neg(b) }")
    part = OpenPart(compile_part(saved(chain), {"threads": 1}))
    rng = np.random.default_rng(0)
    cache = rng.normal(size=(64, 64)).astype(np.float32)
    strided = rng.normal(size=(64, 128)).astype(np.float32)[:, ::2]
    frozen = rng.normal(size=(64, 64)).astype(np.float32)
    frozen.flags.writeable = False
    for turn in range(3):
        cache[turn] = turn - 1.0
        for array in (cache, cache, strided, frozen):
            before = array.copy()
            (y,) = part.run([array])
            np.testing.assert_array_equal(y, -2 * np.maximum(before, 0))
            np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.ones((3, 2), np.float32), r"float32 \[3, 2\], the part takes float32 \[2, 3\]"),
        (np.ones(3, np.float32), r"float32 \[3\]"),
        (np.ones((2, 3), np.float64), r"float64 \[2, 3\]"),
        (np.ones((2, 3), np.int64), "int64"),
    ],
)
def test_inputs_of_other_shapes_and_types_are_refused(twice, array, why):
    part = OpenPart(compile_part(twice, {"threads": 1}))
    with pytest.raises(ValueError, match=why):
        part.run([array])
    with pytest.raises(ValueError):
        part.run([])


def test_threads_take_turns(graph, saved):
    square = graph("(float[96,96] x) => (float[96,96] y) { a = MatMul(x, x) y = MatMul(a, x) }")
    part = OpenPart(compile_part(saved(square), {"threads": 1}))
    asked = [np.full((96, 96), n / 8, np.float32) for n in range(16)] * 4
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda x: part.run([x])[0], asked))
    for x, y in zip(asked, answers, strict=True):
        np.testing.assert_allclose(y, x @ x @ x, rtol=1e-5)


def test_workers_rest_between_runs(graph, saved):
    """Spinning, they would take the cores from the next part."""
    part = graph("(float[512,512] x) => (float[512,512] y) { y = MatMul(x, x) }")
    made = OpenPart(compile_part(saved(part), {"threads": 2}))
    spent = []
    for _ in range(5):
        made.run([np.ones((512, 512), np.float32)])
        before = time.process_time()
        time.sleep(0.05)
        spent.append(time.process_time() - before)
    assert min(spent) < 0.002


def test_integers_and_masks_come_as_they_are(graph, run_openvino):
    part = graph(
        "(int64[4] i, bool[4] m) => (int64[4] j, bool[4] n, float[4] f) "
        "{ j = Add(i, i) n = Not(m) f = Cast <to=1> (m) }"
    )
    found = run_openvino(
        part, {"i": np.array([0, -3, 7, 2**20]), "m": np.array([True, False, True, True])}
    )
    assert found["j"].tolist() == [0, -6, 14, 2**21] and found["j"].dtype == np.int64
    assert found["n"].tolist() == [False, True, False, False] and found["n"].dtype == np.bool_
    assert found["f"].tolist() == [1, 0, 1, 1]


def test_what_does_not_load_is_told_without_a_stack(tmp_path, capfd):
    path = tmp_path / "bundle" / "openvino" / "x.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not onnx")
    with pytest.raises(JobFault, match=r"EV304 artifact x\.onnx cannot be used") as caught:
        compile_part(path, {})
    assert str(tmp_path / "bundle") in caught.value.fix and capfd.readouterr() == ("", "")
    assert "src/" not in caught.value.why


def test_an_op_it_cannot_read_is_told_with_its_reason(graph, saved):
    """One of the two forms that capabilities.py names."""
    part = graph(
        "(float[3,6] x, int64[2,3] i) => (float[2,3] y) { y = GatherElements <axis=1> (x, i) }"
    )
    with pytest.raises(JobFault, match="EV304") as caught:
        compile_part(saved(part), {})
    assert "GatherElements" in caught.value.why and len(caught.value.why) <= 300


def test_the_reason_is_the_message_without_its_places():
    text = "Exception from src/a.cpp:84:\nCheck 'false' failed at src/b.cpp:151:\nit  is\n\nso\n"
    assert reason(RuntimeError(text)) == "it is so"
    assert reason(RuntimeError("Exception from src/a.cpp:84:")) == "Exception from src/a.cpp:84:"
    assert reason(RuntimeError()) == "RuntimeError"


def test_the_settings_it_writes_are_settings_it_reads():
    for threads in (0, 1, 256):
        made = OpenVinoSettings(threads=threads).model_dump()
        assert OpenVinoSettings(**made).model_dump() == made == {"threads": threads, "group": 0}
