"""A rank that is lost or stuck ends every other one, a slow one does not; real processes, with RANK set for each."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import ROOT
from pipeline.distributed import pulse
from pipeline.errors import InputError

PATIENCE = 5  # under load the ranks begin seconds apart

# `python -m pipeline calibrate` whose work is argv[3]; each rank leaves a file in the folder argv[2] when it begins
WORK = """
import runpy
import sys
import time
from pathlib import Path
from pipeline import distributed
from pipeline.cli import main as cli
from pipeline.errors import BackendUnavailable

def work(**_):
    rank = distributed.world().rank
    Path(sys.argv[2], str(rank)).touch()
    exec(sys.argv[3])

cli.app = work
runpy.run_module("pipeline", run_name="__main__")
"""
COMPUTE = "while True: sum(range(10_000))"
EXCHANGE = "while True: distributed.leader_says(1)"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def ranks(folder: Path, size: int, work: str, only: Sequence[int] | None = None) -> Iterator[list[subprocess.Popen]]:
    """Yields the started processes of a run of `size`, all of them or `only` these ranks."""
    (folder / "work.py").write_text(WORK, encoding="utf-8")
    (folder / "begun").mkdir()
    about = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    about |= {pulse.VARIABLE: str(PATIENCE), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(folder / "work.py"), "calibrate", str(folder / "begun"), work]
    started = [
        subprocess.Popen(command, env={**os.environ, **about, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in only or range(size)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ends(processes: Sequence[subprocess.Popen]) -> list[tuple[int, str]]:
    """Returns the exit code of each process and what it printed on stderr."""
    said = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_or_stuck_rank_ends_all_others_with_an_error(sent: signal.Signals, victim: int, tmp_path: Path) -> None:
    """Of the two others one computes, and one waits in an exchange."""
    with ranks(tmp_path, 3, f"exec({EXCHANGE!r} if rank == 2 else {COMPUTE!r})") as processes:
        while len(list((tmp_path / "begun").iterdir())) < 3:
            assert all(process.poll() is None for process in processes)
            time.sleep(0.05)
        processes[victim].send_signal(sent)
        others = ends([process for process in processes if process is not processes[victim]])
        for code, text in others:
            assert code == 2 and text.count("error: another process of this run ended unexpectedly: rank ") == 1, text
        # the first to notice ends at once, and may be what the other misses
        assert any(f"rank {victim} is gone" in text for _, text in others), others
        if sent is signal.SIGSTOP:  # a rank that goes on when the others have given it up ends as they did
            processes[victim].send_signal(signal.SIGCONT)
            ((code, text),) = ends([processes[victim]])
            assert code == 2 and text.startswith("error: another process of this run ended unexpectedly: rank ")


def test_an_error_of_one_rank_is_printed_by_rank_0_and_is_the_exit_code_of_all(tmp_path: Path) -> None:
    work = f"if rank == 1: raise BackendUnavailable('no such thing')\n{EXCHANGE}"
    with ranks(tmp_path, 3, work) as processes:
        assert ends(processes) == [(3, "error: no such thing\n"), (3, ""), (3, "")]


def test_a_fault_of_one_rank_is_told_by_it_and_ends_all(tmp_path: Path) -> None:
    with ranks(tmp_path, 2, f"if rank == 1: raise RuntimeError('odd')\n{EXCHANGE}") as processes:
        (code, text), (code_1, text_1) = ends(processes)
    assert code_1 == 70 and text_1.startswith("error: a fault of this program, RuntimeError: odd; the traceback is in ")
    assert code == 2 and text.startswith("error: another process of this run ended unexpectedly: rank 1 is gone")
    Path(text_1.split("traceback is in ")[1].split(";")[0]).unlink()


def test_a_rank_that_ends_before_the_others_is_an_error(tmp_path: Path) -> None:
    with ranks(tmp_path, 2, f"if rank == 1: raise SystemExit(2)\n{EXCHANGE}") as processes:
        told = "error: rank 1 ended before the others; give all of them the same command line.\n"
        assert ends(processes) == [(2, told), (2, "")]


def test_a_rank_that_computes_for_longer_than_the_patience_is_waited_for(tmp_path: Path) -> None:
    """Rank 0 then ends with a code of its own, which is no error of the other's."""
    work = f"""
end = time.monotonic() + {1.5 * PATIENCE}
while rank and time.monotonic() < end:
    sum(range(10_000))
distributed.leader_says(1)
raise SystemExit(rank == 0)
"""
    with ranks(tmp_path, 2, work) as processes:
        assert ends(processes) == [(1, ""), (0, "")]


@pytest.mark.parametrize("absent", [0, 1])
def test_a_rank_that_never_starts_is_an_error(absent: int, tmp_path: Path) -> None:
    with ranks(tmp_path, 2, EXCHANGE, only=[1 - absent]) as processes:
        ((code, text),) = ends(processes)
    assert code == 2
    assert text.startswith(f"error: rank {1 - absent} could not join the 2 processes of this run (")
    assert f"within {PATIENCE} s of each other (or set {pulse.VARIABLE}=seconds).\n" in text


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf"])
def test_a_patience_without_sense_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pulse.VARIABLE, text)
    with pytest.raises(InputError, match=f"{pulse.VARIABLE}={text}: expected seconds above 0; leave it out for 20"):
        pulse.patience()


def test_the_patience_and_the_end_of_a_stopped_process_by_torchrun_take_less_than_a_minute() -> None:
    import inspect

    from torch.distributed.elastic.multiprocessing.api import PContext

    killed_after = inspect.signature(PContext.close).parameters["timeout"].default
    assert pulse.patience() * (1 + 1 / pulse.ROUNDS) + killed_after < 60
