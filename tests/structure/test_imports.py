"""What a room needs at import: every module is imported in a process where its files reach nothing else."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from helpers import ROOT
from helpers.command_line import python

LIGHT = ("numpy", "pydantic", "yaml")
TORCH = ("numpy", "torch", "transformers", "pytorch_quantization", "absl", "onnx", "onnx_ir")
GRAPHS = ("numpy", "onnx", "onnx_ir")
# {room or module: the packages that it and what it imports may need at import}; the longest name counts
NEEDS = {
    "calibration": ("numpy",),
    "calibration.calibrator": ("numpy", "torch", "pytorch_quantization"),
    "calibration.samples": ("numpy", "PIL"),
    "calibration.store": ("numpy", "pydantic", "typing_extensions"),
    "pipeline": LIGHT,
    "pipeline.__main__": (*LIGHT, "typer"),
    "pipeline.backends": (),
    "pipeline.bench": (*LIGHT, "PIL"),
    "pipeline.bench.sensitivity.probes": (*GRAPHS, *LIGHT, "PIL"),
    "pipeline.checkpoint": ("numpy",),
    "pipeline.checkpoints": ("numpy", "PIL", "safetensors", "sklearn", "tokenizers", "torch", "transformers"),
    "pipeline.cli": (*LIGHT, "typer"),
    "pipeline.distributed": (),
    "pipeline.errors": (),
    "pipeline.families": (*LIGHT, "PIL"),  # the tasks, whose heads it has
    "pipeline.families._bert_residual": TORCH,
    "pipeline.families._bert_rewrites": TORCH,
    "pipeline.families._rewrites": TORCH,
    "pipeline.families._segformer_residual": TORCH,
    "pipeline.families._segformer_rewrites": TORCH,
    "pipeline.files": (),
    "pipeline.graph": GRAPHS,
    "pipeline.judge": (),
    "pipeline.lint": (*GRAPHS, "google"),
    "pipeline.measure": (),
    "pipeline.model": (*LIGHT, "PIL"),
    "pipeline.model.onnx_export": TORCH,
    "pipeline.model.operator_parity": TORCH,
    "pipeline.progress": (),
    "pipeline.quantization": TORCH,
    "pipeline.report": (*LIGHT, "PIL", "markupsafe", "typing_extensions"),
    "pipeline.stages": (*LIGHT, "PIL"),
    "pipeline.tasks": ("numpy", "PIL"),
}
HEAVY = {"torch", "transformers", "pytorch_quantization", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino",
         "tensorrt", "polygraphy", "matplotlib", "sklearn", "scipy", "nncf", "modelopt", "tokenizers"}  # fmt: skip

# Imports modules, and prints what their files and those that they import took from packages of others and what that
# loaded. Such a package is refused unless it is allowed.
BARE = """
import builtins, importlib, json, sys

allowed, modules = json.loads(sys.argv[1])
own, used, unguarded = {"pipeline", "calibration"}, set(), builtins.__import__

def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    top, importer = name.partition(".")[0], (globals or {}).get("__name__", "")
    if not level and importer.partition(".")[0] in own and top not in own | sys.stdlib_module_names:
        used.add(top)
        if top not in allowed:
            raise ModuleNotFoundError(f"{importer} imports {name}", name=top)
    return unguarded(name, globals, locals, fromlist, level)

builtins.__import__ = guarded
for module in modules:
    importlib.import_module(module)
print(json.dumps([sorted(used), sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def bare(packages: tuple[str, ...], modules: list[str]) -> tuple[set[str], set[str]]:
    """Returns the packages that importing these modules needed, and all that it loaded."""
    done = python(BARE, json.dumps([packages, modules]))
    assert done.returncode == 0, done.stderr[-2000:]
    used, loaded = json.loads(done.stdout)
    return set(used), set(loaded)


def rooms() -> dict[str, list[str]]:
    """Returns {name in NEEDS: the modules that it speaks for}."""
    files = [file for package in ("calibration", "pipeline") for file in sorted((ROOT / package).rglob("*.py"))]
    found = defaultdict(list)
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        found[next(name for name in names if name in NEEDS)].append(names[0].removesuffix(".__init__"))
    return found


ROOMS = rooms()
# one process for all rooms with the same needs
GROUPS = {needs: [room for room in NEEDS if NEEDS[room] == needs] for needs in dict.fromkeys(NEEDS.values())}


def test_the_table_names_rooms_that_exist() -> None:
    assert set(ROOMS) == set(NEEDS)


@pytest.mark.parametrize("needs", GROUPS, ids=lambda needs: " ".join(needs) or "nothing")
def test_every_module_is_imported_with_these_packages_alone(needs: tuple[str, ...]) -> None:
    used, loaded = bare(needs, [module for room in GROUPS[needs] for module in ROOMS[room]])
    assert used == set(needs), "the table names what no module needs"
    assert HEAVY & set(needs) or not HEAVY & loaded, "a light package loads a heavy one"


def test_what_is_not_in_the_table_is_refused() -> None:
    """Otherwise the tests above would pass whatever is imported."""
    with pytest.raises(AssertionError, match=r"pipeline\.graph\w* imports onnx_ir"):
        bare(("numpy",), ["pipeline.graph.fold"])
