"""Jobs on Ray: the same answers as in processes, and a job outlives its worker and its node."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from potstill._util.input_limits import limited, limits
from potstill.errors import PotstillError, PotstillWarning
from potstill.execution import Executor, Processes, Ray, Serial, parallelism, resolve_executor
from potstill.execution import ray_cluster as module
from potstill.native import versions
from tests.execution.test_processes import Product, chatter, fail_at_three, fussy, settings, square

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@pytest.fixture(scope="module")
def local() -> Iterator[Ray]:
    with Ray(workers=2) as executor:
        yield executor


def die_once(path: str) -> int:
    """Kills its worker the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nap(path: str) -> str:
    if path:
        time.sleep(60)
        Path(path).touch()
    return path


def absolute(path: str) -> Path:
    return Path(path).absolute()


def told(name: str) -> str | None:
    return os.environ.get(name)


def test_results_come_in_the_order_of_the_jobs_from_elsewhere(local: Ray) -> None:
    assert isinstance(local, Executor)
    assert list(local.map(square, range(7))) == [x * x for x in range(7)]
    assert list(local.map(square, [])) == []
    rows = list(local.map(settings, range(4)))
    assert os.getpid() not in {pid for pid, _ in rows}
    assert {threads for _, threads in rows} == {1}


def pixels_allowed(_: int) -> int:
    return limits().pixels


def test_jobs_are_under_the_limits_of_whoever_sends_them(local: Ray) -> None:
    with limited(pixels=1234):
        assert list(local.map(pixels_allowed, range(3))) == [1234] * 3
    assert list(local.map(pixels_allowed, range(3))) == [limits().pixels] * 3


def test_bits_are_those_of_one_process(local: Ray) -> None:
    rng = torch.Generator().manual_seed(0)
    product = Product(torch.randn(300, 200, generator=rng))
    jobs = [torch.randn(50, 300, generator=rng) for _ in range(4)]
    for here, there in zip(Serial().map(product, jobs), local.map(product, jobs), strict=True):
        assert torch.equal(here, there)


def test_exceptions_come_back_as_in_processes(local: Ray) -> None:
    results = local.map(fail_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three is not here") as caught:
        next(results)
    assert "fail_at_three" in caught.value.__notes__[0]
    with pytest.raises(PotstillError, match="Fussy: 5 and 5"):
        list(local.map(fussy, [5]))
    with pytest.raises(PotstillError, match="must be picklable"):
        list(local.map(lambda x: x, [1]))


def test_what_a_job_prints_stays_there(local: Ray, capfd: pytest.CaptureFixture[str]) -> None:
    assert list(local.map(chatter, range(3))) == [0, 1, 2]
    assert "a job that prints" not in capfd.readouterr().out


@pytest.mark.slow
def test_a_job_whose_worker_dies_is_begun_again(local: Ray, tmp_path: Path) -> None:
    assert list(local.map(die_once, [str(tmp_path / str(i)) for i in range(3)])) == [7, 7, 7]


@pytest.mark.slow
def test_a_job_that_always_dies_is_named(local: Ray) -> None:
    with pytest.raises(PotstillError, match=r"begun on the cluster and 1 times again.*more cores"):
        list(Ray(workers=2, retries=1).map(die, [0]))


@pytest.mark.slow
def test_what_nobody_waits_for_is_cancelled(local: Ray, tmp_path: Path) -> None:
    naps = local.map(nap, ["", str(tmp_path / "a"), str(tmp_path / "b")])
    assert next(naps) == ""
    naps.close()  # type: ignore[attr-defined]
    assert list(local.map(square, range(4))) == [0, 1, 4, 9]
    assert not list(tmp_path.iterdir()), "they would have had to end before there were cores for these"


def test_paths_mean_what_they_mean_here(local: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(local.map(absolute, ["a"])) == [tmp_path / "a"]


def test_variables_of_ours_go_along_and_signals_stay(local: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(next(local.map(told, ["PYTHONPATH"]))).split(os.pathsep)[0] == next(p for p in sys.path if p)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_another_processor_is_not_passed_over(local: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "versions", lambda: {**versions(), "processor": "PDP-11"})
    with pytest.warns(PotstillWarning, match=r"other bits are computed \(processor .* there and PDP-11 here\)"):
        assert list(local.map(square, [2, 3])) == [4, 9]


def test_a_forecast_knows_how_many_jobs_run_at_a_time(local: Ray) -> None:
    assert parallelism(Serial()) == (1, None)
    assert parallelism(Processes(3, threads=2)) == (3, 2)
    assert parallelism(Ray(workers=3)) == (3, 1)
    list(local.map(square, [1]))  # its cluster of two cores stands
    assert parallelism(Ray(address="auto")) == (2, 1)
    assert parallelism(Ray(address="auto", threads=2)) == (1, 2)
    assert Ray(address="auto", gpus=1.0).num_workers() == 1, "no GPU is there: jobs wait, and none is divided by 0"


def test_what_is_asked_for_is_checked() -> None:
    found = resolve_executor("ray:workers=3,gpus=0.5")
    assert isinstance(found, Ray)
    assert (found.workers, found.gpus, found.address) == (3, 0.5, "")
    found = resolve_executor("ray:address=ray://10.0.0.1:10001")
    assert isinstance(found, Ray)
    assert found.address == "ray://10.0.0.1:10001"
    with pytest.raises(PotstillError, match="leave out workers or address"):
        Ray(address="auto", workers=2)
    with pytest.raises(PotstillError, match="0 or more"):
        Ray(retries=-1)
    with pytest.raises(PotstillError, match="executor"):
        resolve_executor("rey")


def test_an_address_where_nobody_listens_is_found_out_at_once() -> None:
    """Ray itself asks for minutes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://localhost:{port}"):
            with pytest.raises(ConnectionRefusedError):
                module._check_listening(address)
        taken.listen()
        module._check_listening(f"127.0.0.1:{port}")
    with pytest.raises(ValueError, match="at most 65,535"):
        module._check_listening("127.0.0.1:99999")
    module._check_listening("auto")


def test_a_cluster_that_wants_its_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray says that it failed to connect, and why only in what came before."""

    class Closed:
        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**_: object) -> None:
            try:
                raise RuntimeError("ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: it is missing")
            except RuntimeError as error:
                raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379") from error

    monkeypatch.setattr(module, "_ray", Closed)
    monkeypatch.setattr(module, "_check_listening", lambda address: None)
    with pytest.raises(PotstillError, match=r"the cluster at 10.0.0.1:6379 asks for its token; give it as") as error:
        list(Ray(address="10.0.0.1:6379").map(square, [1]))
    assert "\n" not in str(error.value)
