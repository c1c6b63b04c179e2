"""One case of `bench-calibration` in a process of its own: `python -m pipeline.bench.calibration_cost CASE WORKLOAD`.

It takes a case's name and the workload as JSON, and prints one line of JSON: what the case's function returned, or
{"unavailable": why} where a package is missing. Seconds are lists, one value a round; memory is in bytes.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

from pipeline import backends
from pipeline.bench.calibration_cost import CASES
from pipeline.bench.calibration_cost.workload import Workload


def run(name: str, workload: Workload) -> dict[str, Any]:
    """Returns a case's result."""
    module, function = CASES[name].split(".")
    try:
        found: dict[str, Any] = getattr(import_module(f"pipeline.bench.calibration_cost.{module}"), function)(workload)
    except ModuleNotFoundError as error:
        return {"unavailable": backends.missing_package(str(error.name), "pip install '.[bench]'")}
    return found


if __name__ == "__main__":
    result = run(sys.argv[1], Workload(**json.loads(sys.argv[2])))
    sys.stdout.write("\n" + json.dumps(result) + "\n")  # the peers print as they like, and not always a whole line
