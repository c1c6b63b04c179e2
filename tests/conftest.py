"""What the tests share: tiny checkpoints, their data, the command line in this process, and folders of artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from helpers import draws, tiny
from helpers.command_line import Cli, call_cli
from helpers.once import once
from helpers.runs import continued, recipe_for, run_stages
from helpers.usable import USABLE
from pipeline.recipe import Recipe

settings.register_profile("suite", derandomize=True)  # the same examples in every run
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CPU", raising=False)  # of `make test CPU=avx2`: a record's command line would name it
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(autouse=True)
def _own_draws() -> None:
    draws.restart()


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

    def fill(root: Path) -> None:
        tiny.bert(root / "bert")
        tiny.bert(root / "classifier", "BertForSequenceClassification")
        tiny.bert(root / "encoder", "BertModel")
        tiny.segformer(root / "segformer")

    root = once(tmp_path_factory, "checkpoints", fill)
    return {name: root / name for name in ("bert", "classifier", "encoder", "segformer")}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns the data set of every checkpoint."""

    def fill(root: Path) -> None:
        tiny.squad(root / "squad.json")
        tiny.table(root / "table.tsv")
        tiny.scenes(root / "scenes")

    root = once(tmp_path_factory, "data", fill)
    table = root / "table.tsv"
    return {"bert": root / "squad.json", "classifier": table, "encoder": table, "segformer": root / "scenes"}


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

    def recipe(name: str, folder: Path) -> Recipe:
        return recipe_for(name, folder, checkpoints[name], data[name])

    def fill(folder: Path) -> None:
        run_stages(recipe(folder.name.partition("-")[0], folder), "quantize", "calibrate")

    names = ("bert", "segformer")
    return {name: recipe(name, once(tmp_path_factory, f"{name}-calibrated", fill)) for name in names}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, calibrated: dict[str, Recipe]) -> Callable[[str], Recipe]:
    """Returns a function: exported("bert") -> the recipe of a folder with its export, made once a session."""
    return lambda name: continued(tmp_path_factory, f"{name}-exported", calibrated[name], ["export"])


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, exported: Callable[[str], Recipe]) -> Callable[[str], Recipe]:
    """Returns a function: built("bert") -> the recipe of a folder with an engine of every backend that works here."""
    return lambda name: continued(tmp_path_factory, f"{name}-built", exported(name), ["lower", "engine"], USABLE)
