"""One method in a process of its own: `python -m pipeline.bench.scaling.worker JOB`, JSON with the fields of `Job`.

It loads the method's engine, writes the outputs of its first call, and answers with one JSON object a line:

    (when it is ready)   {"seconds": of the second call}, or {"fault", "memory"}: what went wrong, and whether
                         memory was too short
    run                  {"seconds": of one call}
    end                  {"peak_rss_bytes": the largest resident set of the process's life}
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

TOO_LITTLE = ("bad_alloc", "allocate memory", "out of memory", "cannot allocate")  # how runtimes say it


@dataclass(frozen=True)
class Job:
    """What one worker runs; files are paths."""

    method: str
    workspace: str
    area: str
    threads: int
    feeds: str  # .npz, read
    outputs: str  # .npz, written

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main(job: Job, answers: IO[str]) -> None:
    """Answers the lines of stdin until `end`, or until the other side is gone."""

    def say(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    try:
        runner, feeds = ready(job)
        say(seconds=timed(runner, feeds))
        for line in sys.stdin:
            if line.strip() == "end":
                from pipeline.measure.memory import PeakMemory

                say(peak_rss_bytes=PeakMemory().peak())
                break
            say(seconds=timed(runner, feeds))
    except Exception as error:  # noqa: BLE001  whatever a runtime raises; the parent decides what it means
        from pipeline.bench.methods import reason

        short = isinstance(error, MemoryError) or any(words in str(error).lower() for words in TOO_LITTLE)
        say(fault=reason(error), memory=short)


def ready(job: Job) -> tuple[Any, dict[str, Any]]:
    """Returns the method after its first call, and its inputs."""
    import numpy as np

    from pipeline.artifacts import Workspace
    from pipeline.bench import methods, timing
    from pipeline.judge.evaluation import read_arrays

    feeds = read_arrays(Path(job.feeds))
    runner = methods.get(job.method).load(Workspace(Path(job.workspace)), Path(job.area), job.threads)
    outputs: Mapping[str, Any] = timing.prepare(runner, feeds)
    np.savez(job.outputs, allow_pickle=False, **outputs)
    return runner, feeds


def timed(runner: Any, feeds: dict[str, Any]) -> float:
    start = time.perf_counter()
    runner(feeds)
    return time.perf_counter() - start


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what a runtime prints is not an answer
        main(Job(**json.loads(sys.argv[1])), answers)
