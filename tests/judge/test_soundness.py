"""What an engine is held to, and a wrapper that makes every output whole and says what was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import qdq_models as models
from pipeline.artifacts import Workspace
from pipeline.errors import ArtifactError
from pipeline.judge import soundness
from pipeline.judge.evaluation import Reference
from pipeline.judge.parity import Limit
from pipeline.judge.reference import dithered_outputs, exact_session, float_session
from pipeline.judge.soundness import Expected, Whole

X = np.arange(1, 13, dtype=np.float32).reshape(6, 2)
REFERENCE = Reference({"x": X}, {"y": 2 * X}, {})
LIMIT = Limit(1e-6, 1e-5, (-1e-3, 1e-3), (-1e-3, 1e-3))


class Doubling:
    """An engine that gives 2x, and what it was fed."""

    def __init__(self, wrong_in_a_batch: bool = False) -> None:
        self.sizes: list[int] = []
        self._wrong = wrong_in_a_batch

    def __call__(self, feeds: dict[str, Any]) -> dict[str, Any]:
        self.sizes.append(len(feeds["x"]))
        return {"y": feeds["x"] * (3 if self._wrong and len(feeds["x"]) > 1 else 2)}


def stored(folder: Path, **arrays: Any) -> Workspace:
    """Returns a workspace whose lower stage stored these arrays for openvino; '__' stands for '/'."""
    workspace = Workspace(folder)
    with workspace.staging("lower/openvino", {}, {}) as area:
        (area / "openvino").mkdir()
        np.savez(area / "openvino" / "exact.npz", **{name.replace("__", "/"): x for name, x in arrays.items()})
    return workspace


@pytest.mark.parametrize(("precision", "noise"), [("fp32", 1e-6), ("fp16", 1e-3)])
def test_a_float_engine_is_held_to_four_outputs_of_the_float_model(
    precision: str, noise: float, tmp_path: Path
) -> None:
    expected = Expected.read(Workspace(tmp_path), "openvino", precision, REFERENCE)
    np.testing.assert_array_equal(expected.outputs["y"], 2 * X[:4])
    assert expected.limits["y"].noise == noise and [*expected.outputs] == [*expected.limits] == ["y"]
    few = Reference({"x": X[:3]}, {"y": 2 * X[:3]}, {})
    found = Expected.read(Workspace(tmp_path), "openvino", precision, few).outputs["y"]
    np.testing.assert_array_equal(found, 2 * X[[0, 1, 2, 0]])


def test_an_int8_engine_is_held_to_what_its_graph_computes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    expected = Expected({"y": X[:4], "z": X[:4] + 1}, {"y": LIMIT, "z": Limit(0.1, 0.2)})
    with workspace.staging("lower/openvino", {}, {}) as area:
        (area / "openvino").mkdir()
        expected.write(area / "openvino" / "exact.npz")
    found = Expected.read(workspace, "openvino", "int8", REFERENCE)
    assert {name: x.tolist() for name, x in found.outputs.items()} == {"y": X[:4].tolist(), "z": (X[:4] + 1).tolist()}
    assert found.limits == expected.limits


SIX = np.arange(6.0)
UNLIKE: dict[str, dict[str, Any]] = {
    "no limits": {"output__y": X[:4]},
    "no outputs": {"limit__y": SIX},
    "a limit of another output": {"output__y": X[:4], "limit__z": SIX},
    "an output without a limit": {"output__y": X[:4], "output__z": X[:4], "limit__y": SIX},
    "something else": {"output__y": X[:4], "limit__y": SIX, "input__y": X[:4]},
    "nothing": {},
}


@pytest.mark.parametrize("case", UNLIKE)
def test_stored_outputs_of_another_form_are_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"exact\.npz is not of this format; run"):
        Expected.read(stored(tmp_path, **UNLIKE[case]), "openvino", "int8", REFERENCE)


def test_what_a_graph_computes_comes_with_the_limits_of_two_neighbours(tmp_path: Path) -> None:
    graph, original = models.convolution(tmp_path / "q.onnx"), models.convolution(tmp_path / "f.onnx", qdq=False)
    feeds = models.feeds(graph, 6)
    floats = float_session(original, 1)(feeds)
    found = Expected.computed(graph, Reference(feeds, floats, {}), 1)
    first = {name: x[:4] for name, x in feeds.items()}
    exact = exact_session(graph, 1)(first)
    neighbours = dithered_outputs(graph, first, 1, 2)
    (name,) = exact
    assert [*found.outputs] == [*found.limits] == [name]
    np.testing.assert_array_equal(found.outputs[name], exact[name])
    limit = Limit.of_neighbours(exact[name], [other[name] for other in neighbours], floats[name][:4])
    assert found.limits[name] == limit
    assert limit != Limit.of_neighbours(exact[name], [neighbours[0][name]], floats[name][:4])


@pytest.mark.parametrize(("largest", "together"), [(8, 4), (4, 4), (2, 2), (1, 1)])
def test_an_engine_runs_one_by_one_and_as_one_batch(largest: int, together: int) -> None:
    engine = Doubling()
    expected = Expected({"y": 2 * X[:4]}, {"y": LIMIT})
    found = soundness.check(engine, expected, REFERENCE, largest)  # type: ignore[arg-type]
    assert sorted(engine.sizes) == sorted([together, 1, 1, 1, 1])
    assert soundness.faults(found) == [] and [*found] == ["one by one", "as one batch"]


def test_an_engine_that_is_wrong_in_a_batch_alone_is_found() -> None:
    engine = Doubling(wrong_in_a_batch=True)
    found = soundness.check(engine, Expected({"y": 2 * X[:4]}, {"y": LIMIT}), REFERENCE, 8)  # type: ignore[arg-type]
    (fault,) = soundness.faults(found)
    assert fault.startswith("y, as one batch: the difference has 0.25 of the signal's energy")
    assert [(row["way"], row["output"], row["passed"]) for row in soundness.rows(found)] == [
        ("one by one", "y", True), ("as one batch", "y", False),
    ]  # fmt: skip


GIVES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"z": X}, "the engine does not give y"),
    "another shape": ({"y": X[:, :1]}, "the engine gives y in the shape (6, 1), not (6, 2)"),
    "fewer samples": ({"y": X[:4]}, "the engine gives y in the shape (4, 2), not (6, 2)"),
}


@pytest.mark.parametrize("case", GIVES)
def test_what_is_not_whole_is_zero_and_said_once(case: str) -> None:
    outputs, said = GIVES[case]
    whole = Whole(lambda feeds: outputs, {"y": 2 * X[:1]})  # type: ignore[arg-type]
    for _ in range(2):
        found = whole({"x": X})["y"]
        assert found.dtype == np.float32 and found.shape == (6, 2) and not found.any()
    assert whole.faults == [said]


def test_values_that_are_not_finite_are_zero_and_the_others_stay() -> None:
    odd = np.array([[np.nan, 1.0], [np.inf, 2.0], [-np.inf, 3.0]], np.float32)
    whole = Whole(lambda feeds: {"y": odd}, {"y": odd[:1]})  # type: ignore[arg-type]
    assert whole({"x": X[:3]})["y"].tolist() == [[0, 1], [0, 2], [0, 3]]
    assert whole.faults == ["the engine gives y with values that are not finite"]


def test_a_sound_engine_stays_as_it_is() -> None:
    whole = Whole(Doubling(), {"y": 2 * X[:1]})  # type: ignore[arg-type]
    np.testing.assert_array_equal(whole({"x": X[:5]})["y"], 2 * X[:5])
    assert whole.faults == []
