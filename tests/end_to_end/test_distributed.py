"""Several processes: the bytes of one, errors told once, folders left whole; with real processes of torchrun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers import ROOT
from helpers.runs import options_of, snapshot
from helpers.usable import USABLE
from pipeline import distributed, stages
from pipeline.distributed import World
from pipeline.errors import InputError
from pipeline.model import collecting, loading, samples
from pipeline.recipe import Recipe
from pipeline.run import Run
from pipeline.stages import build, calibrate

FILES = ("calibration.json", "calibration.npz")

# `python -m pipeline` in which rank 1 does something else than collecting
FAULTY = """
import os
import runpy
from pipeline import distributed
from pipeline.errors import BackendUnavailable
from pipeline.model import collecting

def fault(*arguments):
    {fault}

honest = collecting.collect
collecting.collect = lambda *arguments: (fault if distributed.world().rank == 1 else honest)(*arguments)
runpy.run_module("pipeline", run_name="__main__")
"""


def torchrun(processes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Returns what `torchrun --nproc-per-node=<processes> <arguments>` gave; it picks a free port."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def copied(recipe: Recipe, folder: Path) -> Recipe:
    """Returns a recipe whose folder is a copy."""
    shutil.copytree(recipe.folder, folder)
    return recipe.model_copy(update={"folder": folder})


@pytest.mark.parametrize(("name", "processes"), [("segformer", 2), ("bert", 3)])
def test_calibration_gives_the_bytes_of_one_process(
    name: str, processes: int, calibrated: dict[str, Recipe], tmp_path: Path
) -> None:
    """There are two batches: the third rank has nothing to do."""
    recipe = copied(calibrated[name], tmp_path / name)
    for file in FILES:
        (recipe.folder / file).unlink()
    done = torchrun(processes, "-m", "pipeline", "calibrate", name, *options_of(recipe))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr.count("calibrate: running") == 1
    for file in FILES:
        assert (recipe.folder / file).read_bytes() == (calibrated[name].folder / file).read_bytes()


@pytest.mark.parametrize("dropped", [None, 1, 2])
@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_a_statistic_that_does_not_arrive_changes_the_result(
    name: str, dropped: int | None, calibrated: dict[str, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks one after another in this process: with all the statistics of three the result is equal, else it is not."""
    from calibration.histograms import histograms_to_bytes

    source = loading.open_source(calibrated[name])
    arrays, _ = samples.calibration(calibrated[name], source, calibrated[name].folder)

    def collected() -> bytes:
        return histograms_to_bytes(*collecting.collect(loading.quantized_model(source, calibrated[name]), arrays, 3))

    alone = collected()
    sent: dict[int, dict[str, Any]] = {}

    def gather(own: Mapping[str, Any]) -> list[dict[str, Any]]:
        sent[distributed.world().rank] = dict(own)
        return [sent[rank] for rank in sorted(sent) if rank != dropped]

    monkeypatch.setattr(distributed, "gather", gather)
    for rank in (1, 2, 0):
        monkeypatch.setattr(distributed, "_joined", World(rank, 3))
        found = collected()
    assert (found == alone) == (dropped is None)


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("raise BackendUnavailable('no such thing here')", 3, "error: no such thing here"),
        ("os._exit(7)", 2, "error: another process of this run ended unexpectedly"),
    ],
    ids=["error", "killed"],
)
def test_a_fault_of_another_rank_stops_all_and_is_told_once(
    fault: str, code: int, message: str, calibrated: dict[str, Recipe], tmp_path: Path
) -> None:
    recipe = copied(calibrated["segformer"], tmp_path / "segformer")
    before = snapshot(recipe.folder)
    (tmp_path / "faulty.py").write_text(FAULTY.format(fault=fault), encoding="utf-8")
    done = torchrun(
        2, tmp_path / "faulty.py", "calibrate", "segformer", *options_of(recipe), "--set", "calibration.batch_size=2"
    )
    assert done.returncode != 0
    assert snapshot(recipe.folder) == before
    if code == 3:  # torchrun itself ends with 1 and tells the code of the process that failed
        assert done.stderr.count(message) == 1, done.stderr
        assert f"(exitcode: {code}) local_rank: 0" in done.stderr
    else:  # torchrun may end rank 0 before it says so, or see both ended and name the one that said so
        said = done.stderr.count(message)
        told_by_rank_0 = said == 1 and f"(exitcode: {code}) local_rank: 0" in done.stderr
        assert said <= 1 and ("(exitcode: 7) local_rank: 1" in done.stderr or told_by_rank_0), done.stderr


def test_data_that_cannot_be_used_are_told_once(calibrated: dict[str, Recipe], tmp_path: Path) -> None:
    recipe = copied(calibrated["bert"], tmp_path / "bert").model_copy(update={"data": str(tmp_path / "none.json")})
    before = snapshot(recipe.folder)
    done = torchrun(2, "-m", "pipeline", "calibrate", "bert", *options_of(recipe))
    assert done.stderr.count("there is no such file or folder") == 1, done.stderr
    assert "(exitcode: 2) local_rank: 0" in done.stderr
    assert snapshot(recipe.folder) == before


def test_verification_judges_as_one_process_does(exported: Callable[[str], Recipe], tmp_path: Path) -> None:
    less = {"verification.warmup": 1, "verification.runs": 5, "shapes.batches": "[1,2]", "verification.samples": 7}
    less |= {"budgets.speedup": 0, "budgets.relative_drop": 1, "budgets.agreement": 0}  # random weights
    options = [x for key, value in less.items() for x in ("--set", f"{key}={value}")]
    alone = copied(exported("bert"), tmp_path / "alone").model_copy(update={"backend": USABLE[0]})
    for name in ("lower", "engine"):
        build.run_stage(name, alone)
    shared = copied(alone, tmp_path / "shared")
    build.run_stage("verify", alone)
    done = torchrun(2, "-m", "pipeline", "verify", "bert", *options_of(shared), "--backend", USABLE[0], *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("verify: running") == 1
    one, two = (json.loads((r.folder / "report.json").read_text(encoding="utf-8")) for r in (alone, shared))
    assert two["accuracy"] == one["accuracy"] and two["accuracy"]["samples"] > 2
    assert not list(shared.folder.glob(".*.partial"))


def test_other_verbs_are_refused(tmp_path: Path) -> None:
    done = torchrun(2, "-m", "pipeline", "engine", "bert", "--output", tmp_path / "bert")
    assert done.stderr.count("error: torchrun shares calibrate and verify, not engine") == 1, done.stderr
    assert "exitcode: 2" in done.stderr and not (tmp_path / "bert").exists()


@pytest.mark.parametrize(
    ("rank", "size", "expected"),
    [(None, None, World()), (None, "4", World()), ("0", "1", World()), ("1", "3", World(1, 3))],
)
def test_the_place_is_read_from_the_environment(
    rank: str | None, size: str | None, expected: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert distributed.started() == expected
    assert distributed.world() == World(), "only a session joins"


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("x", "2"), ("0", ""), ("-1", "2")])
def test_an_environment_without_sense_is_refused(rank: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(InputError, match=f"RANK={rank} and WORLD_SIZE={size}"), distributed.session("calibrate"):
        pass


def test_a_rank_that_sees_other_files_says_so(calibrated: dict[str, Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    other = calibrated["bert"].model_copy(update={"seed": calibrated["bert"].seed + 1})
    found: list[int] = []
    monkeypatch.setattr(distributed, "leader_says", lambda value: found.append(value) or 0)
    stages.run("calibrate", calibrated["bert"])
    assert found == [0], "up to date: the others have nothing to do"
    assert stages.assist("calibrate", other)["skipped"]
    leader = stages._fingerprint(calibrate.inputs(Run.of(calibrated["bert"])))
    monkeypatch.setattr(distributed, "leader_says", lambda value: leader)
    with pytest.raises(InputError, match="calibrate: rank 0 sees other data, files, code or versions than rank 0"):
        stages.assist("calibrate", other)
