"""What the tests share: tiny checkpoints, their data, the command line in this process, and folders of artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import tiny
from helpers.command_line import Cli, call_cli
from helpers.runs import recipe_for, run_stages
from pipeline.recipe import Recipe


@pytest.fixture(scope="session", autouse=True)
def _no_placements_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Returns a function: cli("engine", "bert", "--set", "…") -> Answer."""

    def capture() -> tuple[str, str]:
        found = capsys.readouterr()
        return found.out, found.err

    return lambda *arguments: call_cli(capture, *arguments)


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


@pytest.fixture(scope="session")
def calibrated(
    tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path], data: dict[str, Path]
) -> dict[str, Recipe]:
    """Returns the recipes of a tiny BERT and a tiny SegFormer whose folders hold the first two stages."""
    root = tmp_path_factory.mktemp("calibrated")
    return {
        name: run_stages(recipe_for(name, root / name, checkpoints[name], data[name]), "quantize", "calibrate")
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
            done[name] = run_stages(source.model_copy(update={"folder": folder}), "export")
        return done[name]

    return export
