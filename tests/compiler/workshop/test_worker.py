"""A process that answers many calls: arrays as they were, errors, and every way to be gone."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.workshop import worker as module
from edgevlm.compiler.workshop.worker import Worker, open_worker

ONE = {"a": np.arange(3.0)}


@pytest.fixture
def start(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "interpreter_for", lambda tool: jobs)
    folder = tmp_path / "work"
    folder.mkdir()

    def begin(request: dict | None = None, within_s: float = 60) -> Worker:
        return open_worker("workshop_jobs:open_sums", request or {}, what="the parts", tool="here",
                           folder=folder, within_s=within_s)  # fmt: skip

    return begin


def gone(worker: Worker) -> bool:
    return worker._child.poll() is not None


def test_arrays_go_and_come_whatever_is_printed_meanwhile(start):
    with start() as worker:
        for size in (0, 1, 7, 2**20 + 3):  # more than a pipe holds, both ways
            asked = {"x": np.arange(size, dtype=np.float32), "y": np.int64(size)}
            found = worker.call("sum", asked)
            assert list(found) == ["x", "y"] and found["y"].shape == ()
            np.testing.assert_array_equal(found["x"], 2 * asked["x"])
            assert found["y"] == 2 * size and found["x"].flags.writeable
    assert gone(worker)


def test_a_call_is_fast_enough_for_one_token(start):
    """Pipes, not files: a decode step makes a call a token. The least of many counts."""
    from time import perf_counter

    with start() as worker:
        worker.call("sum", ONE)
        times = []
        for _ in range(50):
            begun = perf_counter()
            worker.call("sum", ONE)
            times.append(perf_counter() - begun)
    assert min(times) < 0.02


def test_an_error_there_is_told_and_the_next_call_works(start):
    with start() as worker:
        with pytest.raises(JobFault, match="EV307 a part: bad input"):
            worker.call("fault", ONE)
        with pytest.raises(JobFault, match=r"EV372 .*TypeError: array 'a' is object"):
            worker.call("object", ONE)
        np.testing.assert_array_equal(worker.call("sum", ONE)["a"], [0, 2, 4])


def test_a_start_that_is_refused_is_told_and_leaves_no_process(start):
    with pytest.raises(JobFault, match="EV304 a part: it is broken"):
        start({"refuse": True})


def test_an_array_that_cannot_be_sent_is_refused_before_it_is(start):
    with start() as worker:
        with pytest.raises(TypeError, match="'a' is <U1"):
            worker.call("sum", {"a": np.array(["x"])})
        assert worker.call("sum", ONE)["a"][1] == 2


def test_a_crash_says_how_and_the_last_words(start):
    with start() as worker:
        with pytest.raises(JobFault) as told:
            worker.call("crash", ONE)
        assert told.value.code == "EV373" and "it was ended by SIGSEGV" in told.value.why
        assert "about to fall" in told.value.why and gone(worker)
        with pytest.raises(JobFault, match=r"EV373 .*it had been ended"):
            worker.call("sum", ONE)


def test_a_call_without_end_is_ended(start):
    with start() as worker:
        with pytest.raises(JobFault, match=r"EV373 .*not done within 2 s"):
            worker.call("sleep", ONE, within_s=2)
        assert gone(worker)


def test_what_is_no_frame_is_told(start):
    with start() as worker:
        # the other side's copy of its standard output is the first file it opened
        with pytest.raises(JobFault, match=r"EV373 .*its reply cannot be read"):
            worker.call("garbage", {"fd": np.int64(3)})
        assert gone(worker)


def test_one_that_is_forgotten_is_ended(start):
    worker = start()
    child, scratch = worker._child, worker._log.parent
    del worker
    gc.collect()
    assert child.poll() is not None and not scratch.exists()


def test_closing_twice_does_nothing(start):
    worker = start()
    worker.close()
    worker.close()
    assert gone(worker)


def test_it_stands_in_its_folder(start, tmp_path):
    with start() as worker:
        assert Path(f"/proc/{worker._child.pid}/cwd").readlink() == tmp_path / "work"


@pytest.mark.parametrize("where", ["_write", "_read"])
def test_one_that_is_interrupted_answers_nothing_more(start, monkeypatch, where):
    """What is left of a question, or of an answer, would be taken for the next."""

    def stop(*_):
        raise KeyboardInterrupt

    with start() as worker:
        worker.call("sum", ONE)
        with monkeypatch.context() as patch:
            patch.setattr(Worker, where, stop)
            with pytest.raises(KeyboardInterrupt):
                worker.call("sum", ONE)
        with pytest.raises(JobFault, match="EV373") as told:
            worker.call("sum", ONE)
    assert "it had been ended" in told.value.why
