"""Classes of processors, what an artifact of one class may do on another, and what is said about it."""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline
from helpers import qdq_models as models
from helpers.usable import USABLE
from pipeline import stages
from pipeline.errors import ArtifactError, EngineRefused
from pipeline.lowering import stored
from pipeline.measure import machine, processor
from pipeline.recipe import Lowering, Placement, Recipe

VNNI, AVX512, AVX2 = ["avx512_vnni", "avx512bw", "avx2"], ["avx512bw", "avx512f", "avx2"], ["avx2"]


@pytest.mark.parametrize(
    ("architecture", "flags", "cap", "expected"),
    [
        ("x86_64", ["amx_int8", *VNNI], "", "amx"),
        ("x86_64", VNNI, "", "vnni"),
        ("AMD64", ["avx_vnni", "avx2"], "", "vnni"),
        ("x86_64", AVX512, "", "avx512"),
        ("x86_64", AVX2, "", "avx2"),
        ("x86_64", [], "", "x86"),  # unknown counts as none
        ("x86_64", VNNI, "AVX2", "avx2"),
        ("x86_64", VNNI, "avx512_core", "avx512"),
        ("x86_64", VNNI, "AVX2_VNNI_2", "vnni"),
        ("x86_64", VNNI, "AVX512_CORE_AMX", "vnni"),  # a cap gives nothing
        ("x86_64", VNNI, "AVX", "x86"),
        ("x86_64", VNNI, "SSE41", "x86"),
        ("x86_64", VNNI, "ALL", "vnni"),
        ("x86_64", AVX2, "AVX512_CORE_VNNI", "avx2"),
        ("aarch64", ["asimddp", "i8mm"], "", "arm"),
        ("arm64", [], "AVX2", "arm"),
        ("riscv64", [], "", "other"),
    ],
)
def test_the_class_of_a_machine(
    architecture: str, flags: list[str], cap: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    monkeypatch.setenv(machine.CAP, cap)
    assert machine.processor_class() == expected


def test_what_stands_in_for_what() -> None:
    assert processor.stand_ins("amx") == ("amx", "vnni"), "where int8 may be slower than float says nothing here"
    assert processor.stand_ins("avx2") == ("avx2", "x86")
    assert processor.stand_ins("arm") == ("arm",)
    assert {name for name in processor.CLASSES if processor.saturates(name)} == {"avx512", "avx2", "x86", "other"}


FREE = {"products": 2, "may_saturate": 0, "worst": [], "processor": "vnni"}
RISKY = {"products": 2, "may_saturate": 1, "worst": ["matmul_3"], "processor": "vnni"}


@pytest.mark.parametrize(
    ("saturation", "right"),
    [(FREE, set(processor.CLASSES)), (RISKY, {"amx", "vnni", "arm"}), (None, {"amx", "vnni", "arm"})],
)
def test_which_processors_an_artifact_is_right_on(saturation: Any, right: set[str]) -> None:
    assert {name for name in processor.CLASSES if processor.right_on(saturation, name)} == right
    said = "every processor" if len(right) == len(processor.CLASSES) else "processors of class amx, vnni, arm"
    assert processor.kind(saturation) == said


@pytest.mark.parametrize(("here", "expected"), [("vnni", False), ("arm", False), ("avx2", True), ("avx512", True)])
def test_graphs_are_bounded_where_the_machine_needs_it_or_the_recipe_asks(
    here: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "processor_class", lambda: here)
    for asked in (None, True, False):
        recipe = Recipe.load("bert", overrides={"lowering.any_cpu": asked} if asked is not None else {})
        wanted = expected if asked is None else asked
        assert processor.bounded(recipe) == wanted
        for name in USABLE:
            dialect = pipeline.backends.get(name).dialect(recipe)
            assert (dialect[0] == "saturation_free") == wanted and dialect.count("saturation_free") == wanted


# --- artifacts that travel ---


def made_on(folder: Path, backend: str, name: str, monkeypatch: pytest.MonkeyPatch, *, bounded: bool) -> Recipe:
    """Returns the recipe of a folder whose engine was built on a class of processors."""
    monkeypatch.setattr(machine, "processor_class", lambda: name)
    workspace = models.export(folder, backend)
    models.lower(workspace, backend, bounded=bounded)
    recipe = models.recipe(folder, backend, **{"budgets.speedup": 0.0})
    # what was built there is right there: this machine's kernels may be no judge of it
    monkeypatch.setattr(stages.load("engine"), "check", lambda *given: {})
    stages.run("engine", recipe)
    monkeypatch.undo()
    return recipe


@pytest.mark.parametrize("backend", USABLE)
def test_an_engine_that_may_saturate_here_is_refused(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "small"
    recipe = made_on(folder, backend, "vnni", monkeypatch, bounded=False)
    monkeypatch.setattr(machine, "processor_class", lambda: "avx2")
    said = r"made for a processor of class vnni: \d of 2 int8 products may saturate on this one \(avx2\).*--from lower"
    with pytest.raises(ArtifactError, match=said):
        pipeline.load_engine(folder, unverified=True)
    with pytest.raises(ArtifactError, match=said):
        stages.run("verify", recipe)
    with pytest.raises(EngineRefused, match=r"may saturate on this processor \(avx2\).*any_cpu=true"):
        stages.run("engine", recipe, force=True)
    assert "processor changed: vnni -> avx2" in stages.why_stale("engine", recipe)


@pytest.mark.parametrize("backend", USABLE)
def test_a_bounded_engine_works_everywhere_and_says_where_it_is_from(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "small"
    made_on(folder, backend, "vnni", monkeypatch, bounded=True)
    monkeypatch.setattr(machine, "processor_class", lambda: "avx2")
    logging.getLogger("pipeline").propagate = True
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        engine = pipeline.load_engine(folder, threads=1, unverified=True)
    assert "was chosen and timed on a processor of class vnni, this one is avx2: it is right here" in caplog.text
    assert engine(models.feeds(folder / backend / "model.qdq.onnx", 1))["logits"].shape == (1, models.CLASSES)


@pytest.mark.parametrize("backend", USABLE)
def test_at_home_nothing_is_said(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made_on(tmp_path / "small", backend, machine.processor_class(), monkeypatch, bounded=True)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        pipeline.load_engine(tmp_path / "small", threads=1, unverified=True)
    assert not caplog.records


# --- lowering ---


@pytest.mark.parametrize("backend", USABLE)
def test_a_graph_is_made_again_for_a_processor_that_saturates(
    backend: str, exported: Callable[[str], Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PROJECT", tmp_path / "project")  # the classes' placements differ
    source = exported("bert")
    folder = Path(shutil.copytree(source.folder, tmp_path / "bert"))
    both = Placement(enable=("*.matmul_*",))  # type: ignore[call-arg]
    recipe = source.model_copy(update={"folder": folder, "backend": backend, "placement": both})

    def lowered(recipe: Recipe, name: str) -> dict[str, Any]:
        monkeypatch.setattr(machine, "processor_class", lambda: name)
        stages.run("lower", recipe)
        return json.loads((folder / backend / "placement.json").read_text(encoding="utf-8"))

    full = lowered(recipe, "vnni")
    products = full["saturation"]["products"]
    attention = {q["name"] for q in full["quantizers"] if q["kind"] in ("scores", "context")}
    assert full["saturation"]["processor"] == "vnni" and 0 < full["saturation"]["may_saturate"] <= products
    assert attention <= {q["name"] for q in full["quantizers"] if q["enabled"]}
    assert stages.why_stale("lower", recipe) == []

    monkeypatch.setattr(machine, "processor_class", lambda: "avx2")
    assert "processor changed: vnni -> avx2" in stages.why_stale("lower", recipe)
    asked = recipe.model_copy(update={"lowering": Lowering(any_cpu=True)})  # type: ignore[call-arg]
    for free in (lowered(recipe, "avx2"), lowered(asked, "vnni")):
        assert free["saturation"]["may_saturate"] == 0 and free["saturation"]["worst"] == []
        assert free["saturation"]["products"] == products - len(attention) // 2
        off = {q["name"]: q for q in free["quantizers"] if not q["enabled"]}
        assert attention <= set(off)
        for name in attention:
            assert off[name]["scale"] is None and "nothing bounds what is computed at run time" in off[name]["reason"]
