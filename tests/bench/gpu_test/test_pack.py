"""The first half of gpu-test: what travels to the machine with the GPU, and that it comes back there to the bit."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibration.arithmetic import Grid
from helpers import gpu_packs
from helpers.command_line import Cli
from helpers.runs import snapshot
from pipeline.bench import shapes
from pipeline.bench.gpu_test import opened, pack, parts, variants
from pipeline.bench.gpu_test.drawn import BIG, Draw, draw_checkpoint
from pipeline.bench.gpu_test.samples import CHECKED, POINTS, Samples, at_points, levels
from pipeline.bench.gpu_test.stored import Shelf, codes, restore
from pipeline.bench.gpu_test.variants import Subject
from pipeline.errors import ArtifactError, InputError
from pipeline.graph import BY_NAME
from pipeline.judge.evaluation import one_by_one
from pipeline.judge.reference import exact_session
from pipeline.recipe import Recipe

Exported = Callable[[str], Recipe]
DIGEST = "ceac9f9713b499469ec3df480861809ec12994be33f858b38e7096f017b71bec"  # of Draw(3, (64, 80), 0.02)


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


# --- drawn weights ---


def test_a_seed_draws_the_same_everywhere() -> None:
    """The digest was taken on another machine, NumPy and processor than the one that runs this."""
    array = Draw(3, (64, 80), 0.02).array()
    assert array.dtype == np.float32 and array.shape == (64, 80)
    assert hashlib.sha256(array.tobytes()).hexdigest() == DIGEST
    assert abs(float(array.std()) / 0.02 - 1) < 0.02 and abs(float(array.mean())) < 0.001
    assert not np.array_equal(array, Draw(4, (64, 80), 0.02).array())


def test_a_checkpoint_is_drawn_once(checkpoints: dict[str, Path], copy_of: Callable[[str], Path]) -> None:
    from safetensors.numpy import load_file

    folder = copy_of("bert")
    before = load_file(folder / "model.safetensors")
    draws = draw_checkpoint(folder)
    after = load_file(folder / "model.safetensors")
    big = sorted(name for name, x in before.items() if x.size >= BIG and x.ndim > 1)
    assert len(draws) == len(big) > 4
    for draw, name in zip(draws, big, strict=True):
        np.testing.assert_array_equal(after[name], draw.array())
        assert draw.std == pytest.approx(float(before[name].std()))
    small = set(before) - set(big)
    assert small and all(np.array_equal(before[name], after[name]) for name in small)
    content = snapshot(folder)
    assert draw_checkpoint(folder) == draws and snapshot(folder) == content
    (folder / "model.safetensors").write_bytes((checkpoints["bert"] / "model.safetensors").read_bytes())
    assert draw_checkpoint(folder) == draws and snapshot(folder) == content, "another file is drawn again"


# --- stored graphs ---


def one_weight(array: np.ndarray, scale: np.ndarray | None = None, axis: int = 0) -> bytes:
    """Returns a graph with one initializer, behind a DequantizeLinear where it has a scale."""
    values = {"w": array} if scale is None else {"w": array, "s": scale}
    made = onnx.helper.make_node("Identity", ["w"], ["y"], name="y")
    if scale is not None:
        attributes = {"axis": axis} if scale.ndim else {}
        made = onnx.helper.make_node("DequantizeLinear", ["w", "s"], ["y"], name="y", **attributes)
    graph = onnx.helper.make_graph(
        [made],
        "one",
        [],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(x, name) for name, x in values.items()],
    )
    return bytes(onnx.helper.make_model(graph).SerializeToString())


DRAW = Draw(0, (96, 64), 0.05)
ROWS = np.linspace(0.001, 0.002, 96, dtype=np.float32)
FORMS: dict[str, tuple[Any, ...]] = {
    "as it is": (DRAW.array(),),
    "transposed": (np.ascontiguousarray(DRAW.array().T),),
    "scaled": (DRAW.array() * np.float32(0.125),),
    "fp16": (DRAW.array().astype(np.float16),),
    "transposed fp16": (np.ascontiguousarray(DRAW.array().T).astype(np.float16),),
    "codes": (codes(DRAW.array(), ROWS, 0), ROWS, 0),
    "transposed codes": (codes(DRAW.array().T, ROWS, 1), ROWS, 1),
    "codes of one scale": (codes(DRAW.array(), np.float32(0.001), None), np.array(0.001, np.float32)),
    "codes of fp16 scales": (codes(DRAW.array(), ROWS.astype(np.float16), 0), ROWS.astype(np.float16), 0),
    "a convolution's": (DRAW.array().reshape(96, 64, 1, 1),),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_drawn_weight_does_not_travel(form: str, tmp_path: Path) -> None:
    graph = one_weight(*FORMS[form])
    digest = Shelf(tmp_path, [DRAW]).put(graph)
    assert not (tmp_path / "blobs").exists() and (tmp_path / f"graphs/{digest}.onnx").stat().st_size < 1000
    assert onnx.load_from_string(restore(tmp_path, digest, [DRAW])) == onnx.load_from_string(graph)


def test_a_factor_that_a_float_graph_shows_is_known_for_the_codes(tmp_path: Path) -> None:
    shelf, scaled = Shelf(tmp_path, [DRAW]), DRAW.array() * np.float32(0.125)
    shelf.put(one_weight(scaled))
    digest = shelf.put(one_weight(codes(scaled, ROWS / 8, 0), ROWS / 8, 0))
    assert not (tmp_path / "blobs").exists()
    assert onnx.load_from_string(restore(tmp_path, digest, [DRAW])).graph.initializer[0].dims == [96, 64]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64])
def test_other_weights_are_blobs_stored_once(dtype: Any, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(0, 3, (64, 64)).astype(dtype)
    graph, shelf = one_weight(array), Shelf(tmp_path, [DRAW])
    digest = shelf.put(graph)
    assert shelf.put(graph) == digest and shelf.put(one_weight(array * np.ones((), dtype))) == digest
    (blob,) = (tmp_path / "blobs").iterdir()
    assert onnx.load_from_string(restore(tmp_path, digest, [])) == onnx.load_from_string(graph)
    blob.write_bytes(bytes(len(blob.read_bytes())))
    with pytest.raises(ArtifactError, match=r"the weight 'w' of graph .* does not come back as it was packed"):
        restore(tmp_path, digest, [])


def test_values_that_fp16_holds_travel_in_it(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(0, 3, (64, 64)).astype(np.float16)
    shelf = Shelf(tmp_path, [])
    digest = shelf.put(one_weight(array.astype(np.float32)))
    shelf.put(one_weight(array))
    (blob,) = (tmp_path / "blobs").iterdir()
    assert blob.stat().st_size == 2 * array.size, "once for both types"
    assert onnx.load_from_string(restore(tmp_path, digest, [])) == onnx.load_from_string(
        one_weight(array.astype(np.float32))
    )


def test_another_draw_is_noticed(tmp_path: Path) -> None:
    digest = Shelf(tmp_path, [DRAW]).put(one_weight(DRAW.array()))
    with pytest.raises(ArtifactError, match="does not come back"):
        restore(tmp_path, digest, [Draw(0, DRAW.shape, 0.06)])


@pytest.mark.parametrize(("scale", "axis"), [(ROWS, 0), (ROWS[:64], 1), (np.float32(0.001), None)])
def test_codes_are_those_of_the_pass(scale: np.ndarray, axis: int | None) -> None:
    np.testing.assert_array_equal(codes(DRAW.array(), scale, axis), Grid(scale, axis).quantize(DRAW.array()))


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
def test_drawn_weights_make_a_small_pack(
    exported: Exported, checkpoints: dict[str, Path], copy_of: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A subject of a published shape: its checkpoint is drawn, its graphs hold recipes only, its accuracy nothing."""
    source, folder = exported("bert"), tmp_path / "gpu-tiny"
    folder.mkdir()
    copy_of("bert").rename(folder / "checkpoint")
    monkeypatch.setattr(shapes, "settings", lambda name, root: {"checkpoint": str(root / "checkpoint")})
    few = [v for v in variants.VARIANTS if v.name in ("fp32", "int8", "int8-initializers")]
    monkeypatch.setattr(variants, "VARIANTS", few)
    settings = {key: value for key, value in gpu_packs.settings(source).items() if key != "checkpoint"}
    subject = Subject("tiny", "bert", judged=0, shape="bert-base", settings=settings, batches=(1, 4))
    manifest = pack.run(tmp_path / "pack", subjects=[subject], targets=("8.6",), root=tmp_path)
    (entry,) = manifest["subjects"]
    assert entry["weights"] == "drawn" and entry["draws"] and not entry["recipe"]["calibration"]["migration"]
    assert not (tmp_path / "pack/blobs").exists(), "every large weight is a recipe"
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
