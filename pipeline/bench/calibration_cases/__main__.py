"""Runs one case and prints its result as the last line of stdout."""

from __future__ import annotations

import json
import sys

from pipeline import backends
from pipeline.bench import calibration_cases

if __name__ == "__main__":
    name, workload = sys.argv[1], calibration_cases.Workload(**json.loads(sys.argv[2]))
    try:
        result = calibration_cases.get(name)(workload)
    except ModuleNotFoundError as error:
        result = {"unavailable": backends.missing_package(str(error.name), "pip install '.[bench]'")}
    sys.stdout.write("\n" + json.dumps(result) + "\n")  # the peers print as they like, and not always a whole line
