"""The first half of gpu-test: what travels to the machine with the GPU, and that it comes back there to the bit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers import gpu_packs
from helpers.command_line import Cli
from pipeline.bench import published
from pipeline.bench.gpu_test import opened, pack, parts, variants
from pipeline.bench.gpu_test.samples import CHECKED, POINTS, Samples, at_points, levels
from pipeline.bench.gpu_test.stored import BIG, put, restore
from pipeline.bench.gpu_test.variants import Subject
from pipeline.errors import ArtifactError, InputError
from pipeline.graph import BY_NAME
from pipeline.judge.evaluation import one_by_one
from pipeline.judge.reference import exact_session
from pipeline.recipe import Recipe

Exported = Callable[[str], Recipe]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Path:
    """Returns the pack of a tiny trained BERT for both dialects."""
    return gpu_packs.make(exported("bert"), tmp_path_factory.mktemp("gpu"))


# --- which engines ---


def test_every_variant_has_its_passes_and_what_it_is_compared_with() -> None:
    for target in variants.TARGETS:
        for family in ("bert", "segformer"):
            found = variants.variants_of(family, target)
            names = [variant.name for variant in found]
            assert set(variants.CORE) <= set(names) and len(set(names)) == len(names)
            for variant in found:
                assert variant.against is None or variant.against in names
                assert set(variant.passes(target)) <= set(BY_NAME)
    options = {(v.residual, v.attention) for v in variants.VARIANTS if v.precision == "int8" and not v.question}
    assert options == {(r, a) for r in ("none", "residual", "both") for a in (True, False)}


def test_the_questions_differ_from_int8_in_their_passes_or_kinds() -> None:
    known = {variant.name: variant for variant in variants.VARIANTS}
    standard = {target: known["int8"].passes(target) for target in variants.TARGETS}
    assert "store_int8_weights" in known["int8-initializers"].passes("8.6")
    assert "store_int8_weights" not in standard["8.6"]
    assert known["int8-fp16-scales"].passes("8.6") == standard["10"]
    assert [p for p in standard["10"] if p not in known["int8-fp32-scales"].passes("10")] == [
        "half_scales",
        "half_precision",
    ]
    assert known["int8-depthwise"].more == {"depthwise"}


def test_an_unknown_subject_offers_the_near_ones(cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown subject 'bert-bas'\. Did you mean bert-base"):
        variants.chosen(["bert-bas"])
    answer = cli("gpu-pack", tmp_path / "pack", "--targets", "9")
    assert answer.code == 2 and "unknown target '9'" in answer.err and not (tmp_path / "pack").exists()


# --- stored graphs ---


def one_weight(array: np.ndarray, name: str = "w", *, raw: bool = True) -> bytes:
    """Returns a graph with one initializer."""
    tensor = onnx.numpy_helper.from_array(array, name)
    if not raw:
        tensor = onnx.helper.make_tensor(name, tensor.data_type, array.shape, array.ravel())
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [name], ["y"], name="y")],
        "one",
        [],
        [onnx.helper.make_tensor_value_info("y", tensor.data_type, None)],
        [tensor],
    )
    return bytes(onnx.helper.make_model(graph).SerializeToString())


def weight_of(graph: bytes) -> np.ndarray:
    return onnx.numpy_helper.to_array(onnx.load_from_string(graph).graph.initializer[0])


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64])
def test_graphs_share_their_weights_and_come_back_to_the_bit(dtype: Any, raw: bool, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(0, 3, (128, 160)).astype(dtype)
    first, second = one_weight(array, raw=raw), one_weight(array, "another", raw=raw)
    digests = [put(tmp_path, graph) for graph in (first, second, first)]
    assert digests[0] == digests[2] != digests[1]
    (weight,) = (tmp_path / "graphs").glob("*.bin")
    assert weight.read_bytes() == array.tobytes()
    assert all(path.stat().st_size < 1000 for path in (tmp_path / "graphs").glob("*.onnx"))
    for graph, digest in zip((first, second), digests, strict=False):
        found = weight_of(restore(tmp_path, digest))
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, weight_of(graph))


def test_small_weights_stay_in_the_graph(tmp_path: Path) -> None:
    graph = one_weight(np.zeros(BIG - 1, np.int8))
    assert onnx.load_from_string(restore(tmp_path, put(tmp_path, graph))) == onnx.load_from_string(graph)
    assert not list((tmp_path / "graphs").glob("*.bin"))


# --- samples ---


def test_images_travel_as_bytes_and_come_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 3, 32, 32)).astype(np.float32)
    images = (pixels / np.float32(255) - np.float32(0.485)) / np.float32(0.229)
    images[:, 2, :, :] = images[:, 2, :1, :1]  # a channel of few levels
    tokens = rng.integers(0, 99, (6, 32))
    made = Samples({"x": images, "t": tokens}, {"y": images[:5, 0]}, {"class_names": np.array(["a"])}, None)
    made.write(tmp_path / "x.npz")
    found = Samples.read(tmp_path / "x.npz")
    np.testing.assert_array_equal(found.inputs["x"], images)
    np.testing.assert_array_equal(found.inputs["t"], tokens)
    assert (
        found.inputs["x"].dtype == np.float32 and found.predictions is None and (found.count, found.checked) == (6, 5)
    )
    assert (tmp_path / "x.npz").stat().st_size < images.nbytes / 3
    assert levels(images + rng.normal(size=images.shape).astype(np.float32)) is None


def test_a_batch_repeats_the_checked_samples_out_of_step(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    made = Samples({"x": x}, {"y": x[:CHECKED]}, {}, None)
    feeds, places = made.batch(8)
    assert places == [0, 1, 2, 3, 4, 0, 1, 2] and np.array_equal(feeds["x"], x[places])
    assert all(size % CHECKED for size in variants.BATCHES if size > 1)


def test_points_are_the_same_of_every_sample_and_all_over_it() -> None:
    x = np.arange(2 * 150 * 40 * 40, dtype=np.float32).reshape(2, 150, 40, 40)
    found = at_points({"y": x})["y"]
    assert found.shape == (2, POINTS) and len(np.unique(found[0])) == POINTS
    np.testing.assert_array_equal(found[1] - found[0], np.full(POINTS, 150 * 40 * 40))
    assert len(np.unique(found[0] // 1600)) == 150, "every class"
    assert at_points({"y": x[:, 0]})["y"].shape == (2, 1600)


# --- the whole pack ---


def test_graphs_come_back_and_compute_what_the_pack_says(packed: Path, tmp_path: Path) -> None:
    (case,) = opened.read(packed).cases
    inputs = {name: x[: case.samples.checked] for name, x in case.samples.inputs.items()}
    for target in variants.TARGETS:
        rows = case.variants(target)
        assert [row["name"] for row in rows] == [v.name for v in variants.variants_of("bert", target)]
        for row in rows:
            assert row["fault"] is None
            path = tmp_path / f"{row['graph']}.onnx"
            path.write_bytes(case.graph(row["graph"]))
            expected, found = case.computed(row["graph"]), one_by_one(exact_session(path, 1), inputs)
            for name, value in expected.items():
                np.testing.assert_array_equal(value, at_points(found)[name])
                assert value.shape == case.samples.floats[name].shape


def test_options_change_the_graph(packed: Path) -> None:
    (case,) = opened.read(packed).cases
    rows = {row["name"]: row for row in case.variants("8.6")}

    def quantizers(name: str) -> int:
        return sum(
            n.op_type == "QuantizeLinear" for n in onnx.load_from_string(case.graph(rows[name]["graph"])).graph.node
        )

    assert quantizers("fp32") == quantizers("fp16") == 0 and rows["fp32"]["graph"] == rows["fp16"]["graph"]
    assert quantizers("int8-attention-fp16") < quantizers("int8") < quantizers("int8-both")
    assert rows["int8"]["graph"] != rows["int8-residual"]["graph"], "the skip branch's pair serves the next linear too"
    assert quantizers("int8-initializers") < quantizers("int8"), "a weight stored as int8 needs no Q"
    halves = {row["name"]: row["graph"] for row in case.variants("10")}
    assert rows["int8-fp16-scales"]["graph"] == halves["int8"] != halves["int8-fp32-scales"]


def test_predictions_are_the_float_models(packed: Path) -> None:
    (case,) = opened.read(packed).cases
    samples = case.samples
    assert samples.predictions is not None and case.task.METRIC == "f1" and samples.count == 8
    assert case.task.score(list(samples.predictions), samples.labels) >= 0


@pytest.mark.slow
def test_random_weights_are_timed_and_not_judged(
    exported: Exported, checkpoints: dict[str, Path], copy_of: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A subject of a published shape, whose accuracy means nothing."""
    source, folder = exported("bert"), tmp_path / "gpu-tiny"
    folder.mkdir()
    copy_of("bert").rename(folder / "checkpoint")
    monkeypatch.setattr(published, "settings", lambda name, root: {"checkpoint": str(root / "checkpoint")})
    few = [v for v in variants.VARIANTS if v.name in ("fp32", "int8", "int8-initializers")]
    monkeypatch.setattr(variants, "VARIANTS", few)
    settings = {key: value for key, value in gpu_packs.settings(source).items() if key != "checkpoint"}
    subject = Subject("tiny", "bert", judged=0, shape="bert-base", settings=settings, batches=(1, 4))
    manifest = pack.run(tmp_path / "pack", subjects=[subject], targets=("8.6",), root=tmp_path)
    (entry,) = manifest["subjects"]
    assert entry["weights"] == "drawn"
    (case,) = opened.read(tmp_path / "pack").cases
    assert case.samples.predictions is None and case.samples.count == CHECKED
    for row in case.variants("8.6"):
        onnx.checker.check_model(onnx.load_from_string(case.graph(row["graph"])))


def test_a_dialect_that_cannot_say_it_is_a_row(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: Any) -> bool:
        raise InputError("2 tensors reach beyond 65504")

    few = [v for v in variants.VARIANTS if v.name in ("fp16", "int8", "int8-fp32-scales")]
    monkeypatch.setattr(variants, "VARIANTS", few)
    monkeypatch.setitem(BY_NAME, "half_scales", refuse)
    folder = gpu_packs.make(exported("bert"), tmp_path, targets=("10",))
    (case,) = opened.read(folder).cases
    rows = {row["name"]: row["fault"] for row in case.variants("10")}
    assert rows["int8"] == "not lowered: 2 tensors reach beyond 65504" and rows["int8-fp32-scales"] is None


def test_a_pack_that_was_altered_is_refused(packed: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "pack"
    shutil.copytree(packed, folder)
    first = next((folder / "graphs").glob("*.onnx"))
    first.write_bytes(first.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match=f"missing or altered: graphs/{first.name}; pack again"):
        opened.read(folder)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not the manifest of a whole pack"):
        opened.read(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="is no pack; pack again"):
        opened.read(folder)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and is no pack"):
        pack.run(tmp_path, subjects=[], targets=("8.6",))
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_pack_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    pack.clear(folder)
    (folder / "graphs").mkdir()
    (folder / "graphs/old.onnx").write_bytes(b"old")
    manifest = pack.run(folder, subjects=[], targets=("8.6",))
    assert manifest["files"] == {} and not (folder / "graphs").exists()
    assert opened.read(folder).cases == []


# --- parts ---


def test_parts_make_the_folder_again(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    (folder / "plans").mkdir(parents=True)
    (folder / "plans/model.plan").write_bytes(b"of this GPU")
    (folder / "noise").write_bytes(np.random.default_rng(0).bytes(2_500_000))
    (folder / "manifest.json").write_text("{}")
    paths = parts.split(folder, 1)
    assert [path.name[-2:] for path in paths] == ["00", "01", "02"]
    assert [path.stat().st_size for path in paths[:2]] == [10**6] * 2 and paths[2].stat().st_size < 10**6
    target = tmp_path / "there"
    target.mkdir()
    subprocess.run(f"cat {paths[0].parent}/pack.tar.xz.part-* | tar -xJ -C {target}", shell=True, check=True)
    assert sorted(p.name for p in (target / "pack").rglob("*")) == ["manifest.json", "noise"]
    assert (target / "pack/noise").read_bytes() == (folder / "noise").read_bytes()
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=paths[0].parent, check=True)
    again = parts.split(folder, 5)
    assert len(again) == 1 and len(list(again[0].parent.glob("*part-*"))) == 1, "no part of another size is left"


def test_the_manifest_says_how_it_was_made(packed: Path) -> None:
    manifest = json.loads((packed / "manifest.json").read_text())
    assert manifest["targets"] == list(variants.TARGETS) and manifest["made"]["onnxruntime"] != "absent"
    text = json.dumps(manifest)
    assert str(packed.parent) not in text, "no path of this machine travels"
