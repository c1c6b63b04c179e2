"""`gpu-test`: builds, checks and times every engine of a pack on this machine's GPU, and writes after every step."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import commands
from pipeline.backends import tensorrt
from pipeline.backends._tensorrt.build import tactic_sources
from pipeline.bench.gpu_test import opened
from pipeline.bench.gpu_test.bench import Bench, Options, OutOfTime
from pipeline.bench.gpu_test.record import Record
from pipeline.bench.gpu_test.variants import CORE
from pipeline.errors import InputError
from pipeline.measure import gpu, machine
from pipeline.measure.versions import versions

if TYPE_CHECKING:
    from pipeline.bench.gpu_test.opened import Case

log = logging.getLogger(__name__)

PLANS = "plans"
PACKAGES = ("numpy", "onnx", "pydantic")


def run(
    folder: Path,
    record: Path,
    options: Options | None = None,
    command: str = "",
    announce: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Returns the document in `record`, in which every engine of the pack in `folder` has a row.

    What the file has already is not done again. command: what the document says it came from. Raises BackendUnavailable
    without a GPU or TensorRT, InputError for a pack that is not for this TensorRT, ArtifactError for one that is not
    whole.
    """
    options, made = options or Options(), tensorrt.maker()
    target = tensorrt.target_of(made.tensorrt)
    pack = opened.read(folder)
    if target not in pack.targets:
        raise InputError(
            f"{folder} is packed for TensorRT {' and '.join(pack.targets)}, here is {made.tensorrt}; pack again with "
            f"`{commands.call('gpu-pack', folder, '--targets', target, python='python')}`."
        )
    about = {"command": command, "pack": pack.digest, "target": target, **vars(made), "environment": environment()}
    about["subjects"] = [described(case, target) for case in pack.cases]
    state = Record.open(record, about)
    bench = Bench(state, target, folder / PLANS, options, announce)
    try:
        for only in (CORE, ()):  # first what answers the targets
            for case in pack.cases:
                bench.subject(case, only)
        state.document["finished"] = True
    except OutOfTime:
        announce(f"gpu-test: {options.seconds:g} seconds are over; the same command goes on where this one stopped")
    finally:
        state.document["running"] = None
        state.write()
    return state.document


def environment() -> dict[str, Any]:
    """Returns what this machine is, and the GPU before anything ran."""
    return {
        "cpu": machine.cpu_name(),
        "os": platform.platform(),
        "versions": {"python": platform.python_version(), **versions(*PACKAGES)},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "gpu": gpu.query(),
        "tactic_sources": tactic_sources(),
    }


def described(case: Case, target: str) -> dict[str, Any]:
    """Returns what the document says of a subject."""
    return {
        "name": case.name,
        "weights": case.entry["weights"],
        "inputs": case.entry["inputs"],
        "batches": list(case.batches),
        "variants": [variant["name"] for variant in case.variants(target)],
    }


def left(document: Mapping[str, Any]) -> Iterator[str]:
    """Yields what of a document was not measured yet: "subject, variant"."""
    known = {(row["subject"], row["variant"]) for row in document["rows"]}
    for subject in document["subjects"]:
        for name in subject["variants"]:
            if (subject["name"], name) not in known:
                yield f"{subject['name']}, {name}"
