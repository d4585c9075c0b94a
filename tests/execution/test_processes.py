import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from potstill.errors import PotstillError
from potstill.execution import Executor, Processes, Serial, choose_executor, is_picklable


def square(x: int) -> int:
    return x * x


def settings(_: int) -> tuple[int, int]:
    return os.getpid(), torch.get_num_threads()


def fail_at_three(x: int) -> int:
    if x == 3:
        raise KeyError("three is not here")
    return x


def die_at_two(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def chatter(x: int) -> int:
    print("a job that prints")
    return x


@dataclass(frozen=True)
class Product:
    weight: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight) @ self.weight.T


class Fussy(Exception):
    """Pickles, but cannot be made again from its arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def fussy(x: int) -> int:
    raise Fussy(x, x)


@pytest.fixture(scope="module")
def pool() -> Iterator[Processes]:
    with Processes(2) as processes:
        yield processes


def test_results_come_in_the_order_of_the_jobs(pool: Processes) -> None:
    assert list(pool.map(square, range(7))) == [x * x for x in range(7)]
    assert list(pool.map(square, [])) == []
    assert list(Serial().map(square, range(7))) == [x * x for x in range(7)]


def test_work_happens_elsewhere_with_the_threads_asked_for(pool: Processes) -> None:
    rows = list(pool.map(settings, range(6)))
    assert os.getpid() not in {pid for pid, _ in rows}
    assert {threads for _, threads in rows} == {1}


def test_workers_are_kept_from_one_map_to_the_next(pool: Processes) -> None:
    first = {pid for pid, _ in pool.map(settings, range(6))}
    second = {pid for pid, _ in pool.map(settings, range(6))}
    assert first & second


def test_serial_and_processes_give_the_same_bits(pool: Processes) -> None:
    rng = torch.Generator().manual_seed(0)
    product = Product(torch.randn(300, 200, generator=rng))
    jobs = [torch.randn(50, 300, generator=rng) for _ in range(4)]
    for here, there in zip(Serial().map(product, jobs), pool.map(product, jobs), strict=True):
        assert torch.equal(here, there)


def test_serial_puts_the_threads_back() -> None:
    before = torch.get_num_threads()
    assert list(Serial(threads=before + 1).map(settings, [0])) == [(os.getpid(), before + 1)]
    assert torch.get_num_threads() == before


def test_an_exception_of_a_job_comes_back_as_itself(pool: Processes) -> None:
    results = pool.map(fail_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three is not here") as caught:
        next(results)
    assert "fail_at_three" in caught.value.__notes__[0]
    assert list(pool.map(square, [2])) == [4]


def test_an_exception_that_does_not_travel_comes_back_as_text(pool: Processes) -> None:
    with pytest.raises(PotstillError, match="Fussy: 5 and 5"):
        list(pool.map(fussy, [5]))


def test_a_dead_worker_is_named_with_its_signal() -> None:
    with Processes(1) as alone, pytest.raises(PotstillError, match=r"ended with signal SIGKILL.*fewer workers"):
        list(alone.map(die_at_two, range(4)))


def test_what_a_job_prints_is_not_an_answer(pool: Processes) -> None:
    assert list(pool.map(chatter, range(3))) == [0, 1, 2]


def test_what_cannot_be_sent_is_refused_before_anything_runs(pool: Processes) -> None:
    with pytest.raises(PotstillError, match=r"must be picklable.*Serial\(\)"):
        list(pool.map(lambda x: x, [1]))
    assert not is_picklable(lambda x: x)
    assert is_picklable(square, torch.zeros(2))


def test_an_unfinished_map_stops_its_workers() -> None:
    with Processes(1) as alone:
        results = alone.map(settings, range(1000))
        pid, _ = next(results)
        results.close()  # type: ignore[attr-defined]
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


SCRIPT = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
sys.path.insert(0, {folder!r})
from {module} import report_and_sleep
from potstill.execution import Processes
list(Processes(2).map(report_and_sleep, range(2)))  # no main guard, on purpose
"""


def report_and_sleep(x: int) -> None:
    os.write(2, f"{os.getpid()}\n".encode())
    time.sleep(600)


def test_ctrl_c_stops_a_plain_script_and_its_workers() -> None:
    script = SCRIPT.format(folder=str(Path(__file__).parent), module=Path(__file__).stem)
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    workers = [int(parent.stderr.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGINT)
    rest = parent.stderr.read()
    assert parent.wait() == -signal.SIGINT
    assert "KeyboardInterrupt" in rest
    parent.stderr.close()
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_are_chosen_for_many_jobs_on_the_cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    many = choose_executor(20, "cpu")
    assert isinstance(many, Processes)
    assert many.workers == 3
    assert isinstance(choose_executor(2, "cpu"), Serial)
    assert isinstance(choose_executor(20, "cuda"), Serial)
    assert all(isinstance(executor, Executor) for executor in (many, Serial()))


def test_a_pool_needs_a_worker() -> None:
    with pytest.raises(PotstillError, match="at least 1 worker"):
        Processes(-1)
