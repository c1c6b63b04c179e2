"""Processes that share one run: `torchrun --nproc-per-node=N -m pipeline calibrate MODEL`, or `verify`.

Every rank executes the same command line. Rank 0 alone takes the folder's lock, decides whether there is anything to
do, writes and prints; the others compute their share, hand it over and exit with 0. They exchange arrays as `.npz`
without pickle: by gloo on CPUs, by NCCL where every rank has a GPU of its own.

A rank takes part in every exchange, with its share or with the error that it met. So an error of any rank stops all of
them at the next exchange; rank 0 prints it and all end with its exit code. A rank that was killed or stopped is noticed
by `pipeline.distributed.pulse`. In one process nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import errors
from pipeline.distributed.pulse import VARIABLE, Pulse, patience
from pipeline.errors import InputError, PipelineError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

VERBS = ("calibrate", "verify")
FAILED, ENDED = -1, -2  # what a rank says in an exchange instead of a value
INTERRUPTED = 130  # what typer makes of Ctrl-C
LONGEST = timedelta(days=1)  # shares differ in time; a lost rank is noticed sooner, by the pulse


@dataclass(frozen=True)
class World:
    """This process among the `size` of its run."""

    rank: int = 0
    size: int = 1


class Stopped(Exception):
    """Raised on every rank at an exchange where one of them reports `error`."""

    def __init__(self, error: PipelineError) -> None:
        super().__init__(str(error))
        self.error = error


_joined = World()
_group: Any = None  # of the exchanges; the pulse has the default group
_pulse: Pulse


def world() -> World:
    """Returns this process's place; outside a `session` it is alone, whoever started it."""
    return _joined


@contextmanager
def session(verb: str) -> Iterator[None]:
    """Joins the processes that torchrun started, until the body ends on all of them; does nothing without torchrun.

    On rank 0 it raises the error of whichever rank met one. The other ranks print nothing and end with its exit code.
    Raises InputError for a verb that is not shared, and when a process does not arrive.
    """
    global _joined
    asked = started()
    if asked.size == 1:
        yield
        return
    _join(asked)
    _joined = asked
    try:
        with _silent() if asked.rank else contextlib.nullcontext():
            try:
                if verb not in VERBS:
                    raise InputError(f"torchrun shares {' and '.join(VERBS)}, not {verb}: run that in one process.")
                yield
            except PipelineError as error:
                _exchange(FAILED, error)
            except SystemExit as end:  # how a command ends
                if end.code != INTERRUPTED:
                    _part()
                raise
            else:
                _part()
    except Stopped as stopped:
        if asked.rank:
            _pulse.follow(stopped.error.exit_code)
        raise stopped.error from None
    finally:
        _joined = World()


def leave(code: int) -> None:
    """Ends a rank at once, its work done and its output flushed; does nothing without torchrun.

    The interpreter's ordinary end runs C++ destructors, which abort when gloo's threads are still alive: now and then,
    on a busy machine, a rank that had finished was reported as failed.
    """
    if started().size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def started() -> World:
    """Returns what torchrun's environment says. Raises InputError where it does not make sense."""
    rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if "RANK" not in os.environ:  # some clusters set WORLD_SIZE for themselves
        return World()
    if not (rank.isdigit() and size.isdigit() and int(rank) < int(size)):
        raise InputError(f"RANK={rank} and WORLD_SIZE={size} are not a rank below a size; let torchrun set them.")
    return World(int(rank), int(size))


def share() -> slice:
    """Returns this rank's slice of a sequence: every size-th item, none where there are too few for all ranks."""
    return slice(_joined.rank, None, _joined.size)


def leader_says(value: int) -> int:
    """Returns the number ≥ 0 that rank 0 gives."""
    return value if _joined.size == 1 else _exchange(value)[0]


def gather(arrays: Mapping[str, NDArray[Any]]) -> list[Arrays]:
    """Returns the arrays of every rank in the order of ranks; on the other ranks only their own."""
    if _joined.size == 1:
        return [dict(arrays)]
    import numpy as np
    import torch
    import torch.distributed as dist

    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    content = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
    sizes, device = _exchange(len(content)), _device()
    gathered = [dict(arrays)]
    with _or_lost():
        if _joined.rank:
            dist.send(content.to(device), dst=0, group=_group)
        for rank in range(1, 1 if _joined.rank else _joined.size):
            received = torch.empty(sizes[rank], dtype=torch.uint8, device=device)
            dist.recv(received, src=rank, group=_group)
            with np.load(io.BytesIO(received.cpu().numpy().tobytes()), allow_pickle=False) as archive:
                gathered.append({key: archive[key] for key in archive.files})
    return gathered


def _join(asked: World) -> None:
    global _group, _pulse
    seconds = patience()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # forty frames of C++ before each error of ours
    try:
        import torch
        import torch.distributed as dist
    except ModuleNotFoundError as error:
        raise InputError(f"several processes need torch ({error}); install '.[torch]', or run one process.") from error
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=seconds))
    except (RuntimeError, ValueError) as error:  # a rank that does not arrive; no address
        raise InputError(
            f"rank {asked.rank} could not join the {asked.size} processes of this run ({str(error).splitlines()[0]}); "
            f"start all of them by torchrun, within {seconds:g} s of each other (or set {VARIABLE}=seconds)."
        ) from error
    _pulse = Pulse(asked.rank, asked.size, seconds)
    _pulse.start()
    # gloo carries the tensors on CPUs, which a machine with GPUs has as well
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _or_lost():
        _group = dist.new_group(backend=backend, timeout=LONGEST)


def _part() -> None:
    """Leaves the others once all have finished."""
    import torch.distributed as dist

    _exchange(ENDED)
    _pulse.finish()
    dist.destroy_process_group()


@contextmanager
def _or_lost() -> Iterator[None]:
    """Lets the pulse end this process where an exchange fails because another one is gone."""
    try:
        yield
    except RuntimeError:
        _pulse.join(2 * _pulse.seconds)
        raise


def _device() -> torch.device:
    """Returns the device that arrays travel by: this rank's GPU if every rank has one of its own, else the CPU."""
    import torch

    local, ranks_here = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", _joined.size))
    own_gpu = torch.cuda.is_available() and torch.cuda.device_count() >= ranks_here
    return torch.device("cuda", local) if all(_exchange(int(own_gpu))) else torch.device("cpu")


def _exchange(value: int, error: PipelineError | None = None) -> list[int]:
    """Returns every rank's value, each ≥ 0 or all ENDED.

    Raises Stopped where one has FAILED, with the error of the first such rank, and where only some have ENDED.
    """
    import torch
    import torch.distributed as dist

    values = [torch.zeros(1, dtype=torch.int64) for _ in range(_joined.size)]
    with _or_lost():
        dist.all_gather(values, torch.tensor([value]), group=_group)
        answers = [int(x) for x in values]
        if FAILED in answers:
            failed = answers.index(FAILED)
            text = json.dumps([type(error).__name__, str(error)]).encode()
            length = torch.tensor([len(text)])
            dist.broadcast(length, src=failed, group=_group)
            content = torch.frombuffer(bytearray(text.ljust(int(length))[: int(length)]), dtype=torch.uint8)
            dist.broadcast(content, src=failed, group=_group)
            kind, message = json.loads(bytes(content.tolist()))
            raise Stopped(error if error and failed == _joined.rank else getattr(errors, kind, PipelineError)(message))
    if ENDED in answers and set(answers) != {ENDED}:
        early = answers.index(ENDED)
        raise Stopped(PipelineError(f"rank {early} ended before the others; give all of them the same command line."))
    return answers


@contextmanager
def _silent() -> Iterator[None]:
    """Silences the body; the traceback of a fault in the program still shows, as the streams are back by then."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
