"""Use of a finished artifact folder: `load_engine("exports/segformer")`, without torch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends, families
from pipeline.artifacts import Workspace, require_own
from pipeline.errors import ArtifactError, InputError
from pipeline.families import _engine_inputs
from pipeline.judge.evaluation import one_by_one, read_json
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.backends import Array, Engine
    from pipeline.tasks import Task


class LoadedEngine:
    """An engine with the pre- and post-processing of its checkpoint.

    engine(feeds)                    dict of arrays -> dict of arrays
    engine.preprocess(raw)           what the task takes (an image, a question and its context) -> feeds,
    context engine.postprocess(out, context) outputs -> what the task gives (label maps, answers)
    engine.run(raw)                  the three in a row
    """

    def __init__(
        self,
        folder: Path,
        backend: str,
        engine: Engine,
        task: Task,
        recipe: Recipe,
        limits: Mapping[str, _engine_inputs.Limits],
        files: Mapping[str, bytes],
    ) -> None:
        self.folder = folder
        self.backend = backend
        self.recipe = recipe
        self.input_names = engine.input_names
        self.output_names = engine.output_names
        self._engine = engine
        self._task = task
        self._limits = limits
        self._files = files
        self._process = os.getpid()

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name; any thread may call.

        Raises InputError for inputs that are missing, unknown, or of another kind, shape or range than the model's, and
        in a process that was forked after the engine was loaded: the runtime's threads are not there.
        """
        if os.getpid() != self._process:
            raise InputError(
                f"the engine of {self.folder} was loaded before this process was forked and cannot run in it; call "
                "load_engine in every process, or start processes by spawn."
            )
        _engine_inputs.check(feeds, self._limits)
        return self._engine(feeds)

    def preprocess(self, raw: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """Returns the engine's inputs for raw data, and what `postprocess` needs besides the outputs."""
        with self._as_loaded() as folder:
            inputs, context = self._task.preprocess(folder, raw, self.recipe)
        return inputs, context

    def postprocess(self, outputs: Mapping[str, Array], context: Mapping[str, Array]) -> Any:
        """Returns the task's answer."""
        with self._as_loaded() as folder:
            return self._task.postprocess(folder, dict(outputs), dict(context))

    def run(self, raw: Any, *, window_stride: int | tuple[int, int] | None = None) -> Any:
        """Returns the task's answer to raw data.

        window_stride: of a segmentation engine's windows, pixels, or height and width (see the recipe's
        shapes.window_stride); None: as the engine's own recipe has it. Windows run one by one.
        """
        recipe = self.recipe
        if window_stride is not None:
            if "pixel_values" not in self.input_names:
                raise InputError(f"window_stride is of images; the engine of {self.folder} takes text.")
            recipe = recipe.with_window_stride(window_stride)
        with self._as_loaded() as folder:
            inputs, context = self._task.preprocess(folder, raw, recipe)
        if recipe.shapes.window_stride is None:
            return self.postprocess(self(inputs), context)
        # as one batch they would be of a shape that nothing is prepared for
        return self.postprocess(one_by_one(self, inputs, None), context)

    @contextmanager
    def _as_loaded(self) -> Iterator[Path]:
        """Yields a folder with the checkpoint's files as they were checked, whatever became of them since."""
        with tempfile.TemporaryDirectory(prefix="int8-pipeline-") as folder:
            for name, content in self._files.items():
                (Path(folder) / name).write_bytes(content)
            yield Path(folder)

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Makes later calls with exactly these input shapes as fast as the backend can."""
        self._engine.prepare(shapes)


def load_engine(
    folder: str | Path,
    *,
    backend: str | None = None,
    threads: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    unverified: bool = False,
) -> LoadedEngine:
    """Returns the engine of an artifact folder, every file of it checked against the recorded digest.

    backend: None for the one whose report is the folder's. threads: None for the physical cores. shapes: the
    input shapes to prepare for, None for those the report was timed at; other shapes work too, more slowly.
    unverified: load an engine that was never judged, or failed. Raises ArtifactError for a file that is missing or
    altered, and for an engine without a verdict "pass" of its own; BackendUnavailable without the runtime.
    """
    from pipeline import tasks

    workspace = Workspace(Path(folder))
    if not workspace.folder.is_dir():
        raise InputError(f"{folder} is not a folder; give what `engine` made, exports/<model> without --output.")
    require_own(workspace.folder)
    report = read_json(workspace, "report.json") if "report.json" in workspace.manifest.files else None
    name = backends.choose(backend or (report["backend"] if report else only_backend(workspace)))
    if not unverified:
        require_verdict(workspace, name)
    engine = backends.load_checked(workspace, name, threads)
    about = read_json(workspace, "quantizers.json")
    files = {path.name: path.read_bytes() for path in workspace.paths_of("quantize")}
    if shapes is None and report is not None:
        shapes = {key: tuple(shape) for key, shape in report["latency"]["inputs"].items()}
    if shapes:
        engine.prepare(shapes)
    recipe = recorded_recipe(workspace, about["family"])
    limits = families.get(about["family"]).input_limits(read_json(workspace, "config.json"), recipe)
    return LoadedEngine(workspace.folder, name, engine, tasks.get(about["task"]), recipe, limits, files)


def require_verdict(workspace: Workspace, name: str) -> None:
    """Raises ArtifactError where a backend's engine was not judged after it was built, or did not pass."""
    files, own = workspace.manifest.files, f"{name}/report.json"
    if any(f"{name}/{file}" not in files for file in backends.get(name).FILES):
        return  # no engine, which is told as that
    judged: dict[str, str] = {}
    if own in files:
        report = read_json(workspace, own)
        judged = report.get("judged", {})
        if report["verdict"] != "pass":
            raise ArtifactError(
                f"the {name} engine in {workspace.folder} failed its verification: {'; '.join(report['reasons'])}. "
                "load_engine(…, unverified=True) loads it all the same."
            )
    if not judged or any(files.get(file, {}).get("sha256") != digest for file, digest in judged.items()):
        raise ArtifactError(
            f"the {name} engine in {workspace.folder} has no verdict of its own: it was built and not verified since. "
            f"To verify it, {workspace.again(verb='verify', file=f'{name}/engine.json')}; "
            "load_engine(…, unverified=True) loads it all the same."
        )


def only_backend(workspace: Workspace) -> str:
    """Returns the backend of the folder's only engine. Raises ArtifactError where there is not exactly one."""
    files = workspace.manifest.files
    built = [n for n in backends.names() if all(f"{n}/{file}" in files for file in backends.get(n).FILES)]
    if len(built) != 1:
        found = f"engines of {', '.join(built)}" if built else "no engine"
        raise ArtifactError(
            f"{workspace.folder} has {found} and no report.json that names one; {workspace.again()} or give backend=."
        )
    return built[0]


def recorded_recipe(workspace: Workspace, family: str) -> Recipe:
    """Returns the recipe that the folder was made with."""
    return Recipe.load(family, overrides={**workspace.manifest.recipe, "folder": workspace.folder})
