"""How often one run reads what: the checkpoint, each sample, the manifest and the digest of each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers.runs import recipe_for
from helpers.usable import USABLE
from pipeline import families, files, tasks
from pipeline.artifacts import Manifest
from pipeline.checkpoint import weights
from pipeline.model import unrewritten
from pipeline.recipe import Recipe
from pipeline.stages import build


@dataclass
class Reads:
    """checkpoint: who read the weights; samples: a digest of each one that was encoded; manifests and hashed: what was
    parsed, and which files were hashed.
    """

    checkpoint: list[str] = field(default_factory=list)
    samples: Counter[str] = field(default_factory=Counter)
    manifests: Counter[bytes] = field(default_factory=Counter)
    hashed: Counter[tuple[str, str]] = field(default_factory=Counter)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Returns what is read from now on, by the process beside export too: it runs in this one. Files count as written
    long ago.
    """
    found = Reads()
    real = {"check": weights.check_weights, "parse": Manifest.parse, "sha256": files.sha256}

    @contextmanager
    def beside(recipe: Recipe, held_out: Any, area: Path) -> Iterator[None]:
        unrewritten.export(recipe.model_dump(mode="json"), str(held_out.folder), str(area))
        yield

    def hashed(path: Path) -> str:
        digest = real["sha256"](path)
        found.hashed[str(path), digest] += 1
        return digest

    def counted(encode: Callable[..., Any], folder: Path, recipe: Recipe, raw: Any) -> Any:
        found.samples.update(repr(sample) for sample in raw)
        return encode(folder, recipe, raw)

    for name in families.names():
        family = families.get(name)
        load = family.load
        monkeypatch.setattr(
            family, "load", lambda *given, load=load: (found.checkpoint.append("model"), load(*given))[1]
        )
    for name in tasks.names():
        task = tasks.get(name)
        monkeypatch.setattr(task, "encode", lambda *given, encode=task.encode: counted(encode, *given))
    monkeypatch.setattr(unrewritten, "exported_beside", beside)
    monkeypatch.setattr(
        weights, "check_weights", lambda folder: (found.checkpoint.append("check"), real["check"](folder))[1]
    )
    monkeypatch.setattr(
        Manifest, "parse", lambda content, path: (found.manifests.update([content]), real["parse"](content, path))[1]
    )
    monkeypatch.setattr(files, "sha256", hashed)
    monkeypatch.setattr(files, "SETTLED", -1.0)
    return found


@pytest.mark.skipif("onnxruntime" not in USABLE, reason="needs ONNX Runtime")
@pytest.mark.parametrize("rewrites", [True, False], ids=["rewritten", "as it is"])
@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_a_run_reads_everything_once(
    name: str, rewrites: bool, checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path, reads: Reads
) -> None:
    recipe = recipe_for(
        name, tmp_path / "out", checkpoints[name], data[name], backend="onnxruntime", rewrites=rewrites,
        calibration__samples=11, budgets__speedup=0.0, budgets__relative_drop=1.0, budgets__agreement=0.0,
        verification__runs=5,
    )  # fmt: skip
    build.build(recipe)
    assert reads.checkpoint == ["check", "model", *(["model"] if rewrites else [])], "the process beside has its own"
    assert sorted(reads.samples.values()) == [1] * 11 + [2] * 8, "of calibration the first few also by transformers"
    assert not list(recipe.folder.glob(".*.partial"))
    again = {key: count for key, count in reads.hashed.items() if count > 1}
    assert not again
    assert set(reads.manifests.values()) == {1}
