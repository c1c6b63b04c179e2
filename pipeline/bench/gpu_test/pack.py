"""`gpu-pack`: every graph that a machine with a GPU builds engines from, and what they must compute, as one folder.

manifest.json              subjects, variants, the digest of every file
graphs/                    graphs, and the weights that they share
samples/<subject>.npz      inputs, float outputs, labels
outputs/<graph>.npz        what the graph computes on the checked samples, in ONNX Runtime, as written
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import stages
from pipeline.backends import tensorrt
from pipeline.backends._policy import Policy
from pipeline.bench import published, results
from pipeline.bench.gpu_test.opened import FORMAT, MANIFEST, OUTPUTS, SAMPLES
from pipeline.bench.gpu_test.samples import CHECKED, Samples, at_points
from pipeline.bench.gpu_test.stored import GRAPHS, put
from pipeline.bench.gpu_test.variants import ATTENTION, Subject, Variant, variants_of
from pipeline.errors import InputError, PipelineError
from pipeline.files import sha256
from pipeline.judge.evaluation import PER_MODEL, Reference, one_by_one
from pipeline.judge.reference import exact_session
from pipeline.lowering import Candidates, placement, selection
from pipeline.measure.versions import versions
from pipeline.run import Run
from pipeline.stages.build import locked
from pipeline.stages.code import code_digest

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

OWN = (GRAPHS, SAMPLES, OUTPUTS)
PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "torch", "transformers", "numpy")


def run(
    folder: Path,
    *,
    subjects: Sequence[Subject],
    targets: Sequence[str],
    root: Path = Path("exports"),
    announce: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Returns the manifest of the pack in `folder`, which is made anew.

    targets: the dialects of the TensorRT that it is for. root: where the artifact folders of the models lie. Raises
    InputError for a folder that holds something else.
    """
    clear(folder)
    entries = [Packing(subject, folder, root, announce).entry(targets) for subject in subjects]
    files = sorted(path for name in OWN for path in (folder / name).rglob("*") if path.is_file())
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "made": {"code": code_digest(__name__), **versions(*PACKAGES)},
        "targets": list(targets),
        "subjects": entries,
        "files": {str(p.relative_to(folder)): {"sha256": sha256(p), "bytes": p.stat().st_size} for p in files},
    }
    results.write(manifest, folder / MANIFEST)
    total = sum(path.stat().st_size for path in files)
    announce(f"gpu-pack: {folder} has {len(files) + 1} files, {total / 1e6:.1f} MB")
    return manifest


def clear(folder: Path) -> None:
    """Empties a folder of an earlier pack. Raises InputError for a folder of something else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder to pack into.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} is not empty and is no pack (it has no {MANIFEST}); give another folder.")
    (folder / MANIFEST).unlink(missing_ok=True)  # first: half a pack must not look like one
    for name in (*OWN, "plans"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text("{}", encoding="utf-8")  # a run that is stopped leaves what the next one may empty


class Packing:
    """One subject on its way into the pack."""

    def __init__(self, subject: Subject, folder: Path, root: Path, announce: Callable[[str], None]) -> None:
        self._subject, self._folder, self._root, self._announce = subject, folder, root, announce

    def entry(self, targets: Sequence[str]) -> dict[str, Any]:
        """Returns the manifest's entry of the subject after writing its files."""
        subject = self._prepared(targets[0])
        recipe = subject.recipe(self._root, targets[0])
        with ExitStack() as held:
            held.enter_context(locked(recipe))
            run = Run.of(recipe)
            workspace = run.workspace
            for stage in ("quantize", "calibrate", "export"):
                stages.run(stage, run, announce=self._announce)
            samples = samples_of(Reference.read(workspace), subject.judged, run.task)
            samples.write(self._folder / SAMPLES / f"{subject.name}.npz")
            rows = [
                self._packed(subject, variant, target, run, samples)
                for target in targets
                for variant in variants_of(subject.family, target)
            ]
        return {
            "name": subject.name,
            "task": run.about["task"],
            "weights": "drawn" if subject.shape else "trained",
            "recipe": recipe.model_dump(mode="json", exclude={"folder", "checkpoint", "data"}),
            "inputs": {name: list(x.shape[1:]) for name, x in samples.inputs.items()},
            "variants": rows,
        }

    def _prepared(self, target: str) -> Subject:
        """Returns the subject with its checkpoint and data in place."""
        subject = self._subject
        if subject.shape is None:
            return subject
        folder = subject.recipe(self._root, target).folder
        settings = {**subject.settings, **published.settings(subject.shape, folder)}
        return Subject(**{**vars(subject), "settings": settings})

    def _packed(self, subject: Subject, variant: Variant, target: str, given: Run, samples: Samples) -> dict[str, Any]:
        """Returns the manifest's row of a variant; `fault` says why it has no graph."""
        self._announce(f"gpu-pack: {subject.name}, {variant.name} for TensorRT {target}")
        described = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in vars(variant).items()}
        row = {**described, "target": target, "graph": None, "fault": None}
        for key in ("targets", "families"):
            del row[key]
        recipe = subject.recipe(self._root, target, variant.residual)
        try:
            graph = lowered(variant, target, given.with_recipe(recipe))
        except PipelineError as error:
            return {**row, "fault": f"not lowered: {error}"}
        row["graph"] = put(self._folder, graph)
        path = self._folder / OUTPUTS / f"{row['graph']}.npz"
        if not path.exists():
            inputs = {name: x[: samples.checked] for name, x in samples.inputs.items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, allow_pickle=False, **computed(graph, inputs, recipe))
        return row


def samples_of(reference: Reference, judged: int, task: Any) -> Samples:
    """Returns the samples that travel: the checked ones and, where accuracy means something, those it is taken on."""
    count = min(max(judged, CHECKED), reference.samples)
    part = reference.first(count)
    checked = {name: x[:CHECKED] for name, x in part.outputs.items()}
    labels = part.labels if judged else {n: x for n, x in part.labels.items() if n in PER_MODEL}
    predictions = np.asarray(task.predict(part.outputs, part.labels)) if judged else None
    return Samples(part.inputs, at_points(checked), labels, predictions)


def lowered(variant: Variant, target: str, run: Run) -> bytes:
    """Returns the ONNX bytes of a variant's graph. Raises InputError where a dialect cannot say it."""
    from pipeline.graph.write import write_checked

    if variant.precision != "int8":
        return tensorrt.float_graph(run.workspace.path("model.onnx"), run.recipe, variant.precision)
    kinds = placement.default(tensorrt.NAME, run.recipe.family).policy.kinds | variant.more
    policy = Policy(kinds if variant.attention else kinds - ATTENTION)
    made = Candidates(run).lower(selection.choice_of(run), policy, variant.passes(target))
    with tempfile.TemporaryDirectory(prefix="gpu-pack-") as scratch:
        path = Path(scratch) / "model.onnx"
        write_checked(made.graph, path)
        return path.read_bytes()


def computed(graph: bytes, inputs: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Returns what a graph computes as it is written, at POINTS."""
    with tempfile.TemporaryDirectory(prefix="gpu-pack-") as scratch:
        path = Path(scratch) / "model.onnx"
        path.write_bytes(graph)
        return at_points(one_by_one(exact_session(path, recipe.verification.threads), inputs, "computing the graph"))
