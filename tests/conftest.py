"""What the tests share: tiny checkpoints, their data, the command line in this process, and folders of artifacts."""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny

from pipeline.recipe import Recipe


@dataclass(frozen=True)
class Answer:
    """What one call of the command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


def call_cli(capture: Callable[[], tuple[str, str]], *arguments: object) -> Answer:
    """Returns the answer of `python -m pipeline <arguments>`, run in this process."""
    from pipeline.cli import verbs

    logger, argv = logging.getLogger("pipeline"), sys.argv
    before, state = list(logger.handlers), (logger.level, logger.propagate)
    capture()
    sys.argv = ["pipeline", *map(str, arguments)]
    code = 0
    try:
        verbs.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = argv
        logger.handlers[:] = before
        logger.level, logger.propagate = state
    return Answer(code, *capture())


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Returns a function: cli("engine", "bert", "--set", "…") -> Answer."""

    def capture() -> tuple[str, str]:
        found = capsys.readouterr()
        return found.out, found.err

    return lambda *arguments: call_cli(capture, *arguments)


def printed(message: object) -> list[list[str]]:
    """Returns the words behind `python -m pipeline` of every command line in a message, as a shell splits them."""
    found, text = [], str(message)
    for start in re.finditer("-m pipeline ", text):
        for end in re.finditer("`|\n|$", text[start.end() :]):
            with suppress(ValueError):  # the end of a line or of `…` inside quotes
                found.append(shlex.split(text[start.end() :][: end.start()]))
                break
    return found


def recipe_of(words: list[str]) -> Recipe:
    """Returns the recipe that the command line makes of these words, parsed as a call of it parses them."""
    import typer

    from pipeline.cli import options, verbs

    verb, *rest = words
    command = typer.main.get_command(verbs.app).commands[verb]  # type: ignore[attr-defined]
    given = command.make_context(verb, list(rest)).params
    asked = inspect.signature(options.make_recipe).parameters
    return options.make_recipe(**{name: given[name] for name in asked})  # type: ignore[no-any-return]


def snapshot(folder: Path) -> dict[str, str]:
    """Returns {file: digest of its bytes} of everything in a folder except the lock."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns the tiny checkpoints by name; read-only, a test that damages one takes a `copy_of`."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        "bert": tiny.bert(root / "bert"),
        "classifier": tiny.bert(root / "classifier", "BertForSequenceClassification"),
        "encoder": tiny.bert(root / "encoder", "BertModel"),
        "segformer": tiny.segformer(root / "segformer"),
    }


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns the data set of every checkpoint."""
    root = tmp_path_factory.mktemp("data")
    table = tiny.table(root / "table.tsv")
    return {
        "bert": tiny.squad(root / "squad.json"),
        "classifier": table,
        "encoder": table,
        "segformer": tiny.scenes(root / "scenes"),
    }


@pytest.fixture
def copy_of(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Returns a function: copy_of("bert") -> a copy of that checkpoint that may be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(checkpoints[name], tmp_path / f"{name}-copy"))

    return copy


def recipe_for(name: str, folder: Path, checkpoint: Path, data: Path, **more: object) -> Recipe:
    """Returns the recipe of a tiny checkpoint: 8 samples to calibrate, 8 to judge, 32 tokens or 64 pixels."""
    overrides = {
        "folder": folder,
        "checkpoint": str(checkpoint),
        "data": str(data),
        "shapes.sequence_length": 32,
        "shapes.image_size": 64,
        "calibration.samples": 8,
        "calibration.batch_size": 4,
        "verification.samples": 8,
        "verification.threads": 1,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return Recipe.load("segformer" if name == "segformer" else "bert", overrides=overrides)


def options_of(recipe: Recipe) -> list[str]:
    """Returns the command-line options that give `recipe`."""
    settings = {
        "shapes.sequence_length": recipe.shapes.sequence_length,
        "shapes.image_size": recipe.shapes.image_size,
        "calibration.samples": recipe.calibration.samples,
        "calibration.batch_size": recipe.calibration.batch_size,
        "verification.samples": recipe.verification.samples,
        "verification.threads": recipe.verification.threads,
    }
    options = [x for key, value in settings.items() for x in ("--set", f"{key}={value}")]
    named = {"--checkpoint": recipe.checkpoint, "--data": recipe.data, "--output": str(recipe.folder)}
    return options + [x for key, value in named.items() if value is not None for x in (key, value)]


def _run(recipe: Recipe, *names: str) -> Recipe:
    from pipeline.stages import build

    for name in names:
        build.run_stage(name, recipe)
    return recipe


@pytest.fixture(scope="session")
def calibrated(
    tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path], data: dict[str, Path]
) -> dict[str, Recipe]:
    """Returns the recipes of a tiny BERT and a tiny SegFormer whose folders hold the first two stages."""
    root = tmp_path_factory.mktemp("calibrated")
    return {
        name: _run(recipe_for(name, root / name, checkpoints[name], data[name]), "quantize", "calibrate")
        for name in ("bert", "segformer")
    }


@pytest.fixture(scope="session")
def exported(calibrated: dict[str, Recipe]) -> Callable[[str], Recipe]:
    """Returns a function: exported("bert") -> the recipe of a folder with its export, made once a session."""
    done: dict[str, Recipe] = {}

    def export(name: str) -> Recipe:
        if name not in done:
            source = calibrated[name]
            folder = source.folder.with_name(f"{name}-exported")
            shutil.copytree(source.folder, folder)
            done[name] = _run(source.model_copy(update={"folder": folder}), "export")
        return done[name]

    return export
