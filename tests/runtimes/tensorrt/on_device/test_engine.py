"""One engine on device memory: fed, run, captured, timed, closed."""

from __future__ import annotations

import numpy as np
import pytest
from micro.typed import Typed

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.api import find_api
from edgevlm.runtimes.tensorrt.on_device.build import build_part
from edgevlm.runtimes.tensorrt.on_device.cudart import find_cuda
from edgevlm.runtimes.tensorrt.on_device.device_array import DeviceArray
from edgevlm.runtimes.tensorrt.on_device.engine import Engine


@pytest.fixture
def doubler(tmp_path, tensorrt):
    """y = x + x, float32 [2,3]."""
    g, api = Typed("fp32"), find_api("tensorrt")
    g.op("Add", "x", "x", name="double")
    g.nodes[-1].output[0] = "y"
    port = (g.kind, (2, 3))
    plan = build_part(g.save(tmp_path / "d.onnx", {"x": port}, {"y": port}), api).engine
    cuda = find_cuda()
    engine = Engine(api, cuda, cuda.stream(), "vision", plan)
    yield engine
    engine.close()


ONES = np.ones((2, 3), np.float32)


def ran(engine, value):
    engine.put("x", value)
    engine.run()
    return engine.get("y")


def test_it_computes(doubler):
    assert (doubler.inputs, doubler.outputs) == (["x"], ["y"])
    assert (ran(doubler, 3 * ONES) == 6).all()


def test_layers_without_room_for_a_second_context_are_told(doubler, monkeypatch):
    monkeypatch.setattr(type(doubler.engine), "create_execution_context", lambda self: None)
    with pytest.raises(JobFault, match="no room") as caught:
        doubler.layer_ms(1)
    assert caught.value.code == "EV307"


def test_feeds_of_another_type_are_converted(doubler):
    assert (ran(doubler, np.full((2, 3), 2, np.float64)) == 4).all()
    assert (ran(doubler, np.arange(6).reshape(3, 2).T) == 2 * np.arange(6).reshape(3, 2).T).all()


def test_a_feed_of_another_shape_is_refused(doubler):
    with pytest.raises(JobFault, match=r"x is \(3, 2\), wanted \(2, 3\)"):
        doubler.put("x", ONES.T)


def test_what_lies_in_the_buffer_already_is_not_copied(doubler):
    doubler.put("x", ONES)
    before = dict(doubler.cuda.moved)
    doubler.put("x", doubler.ports["x"])
    assert doubler.cuda.moved == before


def test_an_output_is_an_input_without_the_host(doubler):
    ran(doubler, ONES)
    before = dict(doubler.cuda.moved)
    doubler.put("x", doubler.ports["y"])
    assert doubler.cuda.moved == {**before, "on_device": before["on_device"] + ONES.nbytes}
    doubler.run()
    assert (doubler.get("y") == 4).all()


def test_a_device_array_of_another_type_is_refused(doubler):
    port = doubler.ports["y"]
    other = DeviceArray(port.cuda, port.stream, port.pointer, port.shape, np.dtype(np.float16))
    with pytest.raises(JobFault, match="float16 on the device"):
        doubler.put("x", other)


def test_a_graph_computes_the_same_from_new_inputs(doubler):
    doubler.put("x", ONES)
    assert doubler.capture() is None and doubler.graph
    for value in (ONES, 5 * ONES):
        assert (ran(doubler, value) == 2 * value).all()


def test_without_a_graph_it_runs_on_and_says_why(doubler, levers):
    levers.fake_refuse_capture(1)
    doubler.put("x", ONES)
    assert "cudaStreamBeginCapture" in doubler.capture() and not doubler.graph
    assert (ran(doubler, ONES) == 2).all()


def test_a_capture_that_breaks_off_leaves_an_engine_that_runs(doubler, monkeypatch):
    doubler.put("x", ONES)
    enqueue, calls = doubler._enqueue, []

    def once(context):
        calls.append(context)
        if len(calls) == 2:  # the first one warms up, the second is captured
            doubler.cuda.wait(doubler.stream)  # which CUDA forbids then
        enqueue(context)

    monkeypatch.setattr(doubler, "_enqueue", once)
    assert "capturing" in doubler.capture() and not doubler.graph
    assert (ran(doubler, 3 * ONES) == 6).all()


def test_times_are_those_of_the_runs_that_count(doubler):
    doubler.put("x", ONES)
    taken = doubler.time_ms(5)
    assert len(taken) == 5 and all(ms >= 0 for ms in taken)
    assert list(doubler.layer_ms(3)) == ["all of it"]


def test_all_memory_is_given_back(doubler, levers):
    before = levers.fake_used()
    doubler.close()
    assert levers.fake_used() < before
    doubler.close()


def test_rows_that_do_not_fit_are_refused(doubler):
    cuda, stream = doubler.cuda, doubler.stream

    def array(*shape):
        size = int(np.prod(shape)) * 2
        return DeviceArray(cuda, stream, cuda.malloc(size), shape, np.dtype(np.float16))

    cache, row = array(1, 2, 4, 3), array(1, 2, 1, 3)
    cache.clear()
    row.clear()
    cache.set_rows(3, row)
    for at, rows in ((4, row), (-1, row), (0, array(1, 2, 5, 3)), (0, array(1, 1, 1, 3))):
        with pytest.raises(ValueError):
            cache.set_rows(at, rows)


def test_rows_land_where_numpy_would_put_them(doubler):
    cuda, stream, draw = doubler.cuda, doubler.stream, np.random.default_rng(0)

    def array(values):
        found = DeviceArray(cuda, stream, cuda.malloc(values.nbytes), values.shape, values.dtype)
        cuda.to_device(found.pointer, values, stream)
        return found

    cache, rows = draw.random((1, 3, 7, 5)), draw.random((1, 3, 2, 5))
    held = array(cache)
    held.set_rows(4, array(rows))
    cache[:, :, 4:6] = rows
    assert (np.array(held) == cache).all()


def test_an_engine_that_does_not_load_is_told_in_the_words_of_tensorrt(tensorrt):
    cuda = find_cuda()
    with pytest.raises(JobFault, match="Magic tag") as caught:
        Engine(find_api("tensorrt"), cuda, cuda.stream(), "vision", b"no engine")
    assert caught.value.code == "EV307"
