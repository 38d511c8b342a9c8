"""The CUDA runtime by ctypes, against a stand-in that refuses what CUDA refuses."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.cudart import Cuda, CudaError, find_cuda


@pytest.fixture
def cuda(levers) -> Cuda:
    return find_cuda()


@pytest.fixture
def stream(cuda):
    return cuda.stream()


def uploaded(cuda, stream, array):
    pointer = cuda.malloc(array.nbytes)
    cuda.to_device(pointer, array, stream)
    return pointer


def downloaded(cuda, stream, pointer, like):
    array = np.empty_like(like)
    cuda.to_host(array, pointer, stream)
    cuda.wait(stream)
    return array


def test_what_goes_up_comes_down(cuda, stream):
    array = np.arange(12, dtype=np.float16).reshape(3, 4)
    pointer = uploaded(cuda, stream, array)
    assert (downloaded(cuda, stream, pointer, array) == array).all()
    assert cuda.moved == {"to_device": 24, "to_host": 24, "on_device": 0}


def test_rows_go_into_the_middle_of_wider_rows(cuda, stream):
    wide, rows = np.zeros((2, 6), np.int8), np.arange(4, dtype=np.int8).reshape(2, 2) + 1
    target, source = uploaded(cuda, stream, wide), uploaded(cuda, stream, rows)
    cuda.rows(target + 3, 6, source, 2, 2, 2, stream)
    wide[:, 3:5] = rows
    assert (downloaded(cuda, stream, target, wide) == wide).all()
    assert cuda.moved["on_device"] == 4


def test_memory_is_cleared(cuda, stream):
    array = np.ones(8, np.int8)
    pointer = uploaded(cuda, stream, array)
    cuda.clear(pointer, 4, stream)
    assert downloaded(cuda, stream, pointer, array).tolist() == [0] * 4 + [1] * 4


def test_memory_is_given_back(cuda, levers):
    before = levers.fake_used()
    pointer = cuda.malloc(100)
    assert levers.fake_used() == before + 100
    cuda.free(pointer)
    assert levers.fake_used() == before


def test_a_copy_past_the_end_is_an_error_with_its_call(cuda, stream):
    pointer = cuda.malloc(4)
    with pytest.raises(CudaError, match="cudaMemcpyAsync: invalid argument") as caught:
        cuda.to_device(pointer, np.zeros(8, np.int8), stream)
    assert caught.value.code == 1 and not caught.value.out_of_memory


def test_memory_that_runs_out_is_told_as_such(cuda, levers):
    levers.fake_set_room(levers.fake_used() + 10)
    assert cuda.memory()[0] == 10
    with pytest.raises(CudaError) as caught:
        cuda.malloc(11)
    assert caught.value.out_of_memory


@pytest.mark.parametrize("capability", [87, 110])
def test_the_capability_is_that_of_the_gpu(cuda, levers, capability):
    levers.fake_set_compute(capability)
    assert cuda.compute_capability == capability


def test_events_measure_time(cuda, stream):
    start, end = cuda.event(), cuda.event()
    cuda.record(start, stream)
    cuda.record(end, stream)
    assert 0 <= cuda.elapsed_ms(start, end) < 1000
    cuda.end_event(start)
    cuda.end_event(end)


def test_a_capture_that_failed_leaves_a_stream_that_works(cuda, stream):
    cuda.begin_capture(stream)
    with pytest.raises(CudaError, match="capturing"):
        cuda.malloc(4)
    cuda.abandon_capture(stream)
    cuda.free(cuda.malloc(4))
    cuda.wait(stream)


def test_a_library_that_is_missing_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEVLM_CUDART", str(tmp_path / "none.so"))
    with pytest.raises(JobFault) as caught:
        find_cuda()
    assert caught.value.code == "EV355" and "nvidia-jetpack" in caught.value.fix


def test_a_library_that_is_no_cuda_runtime_is_told(monkeypatch):
    monkeypatch.setenv("EDGEVLM_CUDART", "libc.so.6")
    with pytest.raises(JobFault, match="cudaMalloc"):
        find_cuda()
