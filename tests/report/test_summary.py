"""The parts of the HTML report: pictures of label maps, marked answers, quantizer rows, numbers."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.statistics import Statistic
from helpers.report_samples import EXAMPLES, QUESTION, sample_report, sample_workspace, scene
from pipeline import families
from pipeline.recipe import Recipe
from pipeline.report import formats, overlays, plots, quantizers, summary


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


@pytest.mark.parametrize(
    ("truth", "before", "after", "colour"),
    [(0, 0, 0, "SAME"), (0, 0, 1, "WORSE"), (1, 0, 1, "BETTER"), (2, 0, 1, "CHANGED"), (2, 0, 0, "SAME"),
     (255, 0, 1, "CHANGED"), (None, 0, 1, "CHANGED")],
)  # fmt: skip
def test_one_changed_pixel_survives_the_reduction(truth: int | None, before: int, after: int, colour: str) -> None:
    side, at = 4 * overlays.WIDE, (517, 130)
    example = {"image": np.zeros((side, side, 3), np.uint8), "label": None}
    for key, value in (("float", before), ("engine", after), ("label", truth)):
        if value is not None:
            example[key] = np.zeros((side, side), np.uint8)
            example[key][at] = value
    row = overlays.segmentation([example], ["a", "b", "c"])["rows"][0]
    picture = pixels(row["pictures"]["difference"])
    assert picture.shape == (overlays.WIDE, overlays.WIDE, 3)
    assert tuple(picture[at[0] // 4, at[1] // 4]) == getattr(overlays, colour)
    assert (picture != overlays.SAME).any(axis=2).sum() == (colour != "SAME")
    assert row["agreement"] == pytest.approx(1 - (before != after) / side**2)


def test_pixel_values_become_the_picture_they_were_made_of(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    mean, std = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.25, 0.3], np.float32)
    config = {"image_mean": mean.tolist(), "image_std": std.tolist(), "rescale_factor": 1 / 255}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    values = ((image / np.float32(255) - mean) / std).transpose(2, 0, 1)
    (example,) = overlays.with_images([{"pixel_values": values}], tmp_path)
    assert np.array_equal(example["image"], image)
    (stretched,) = overlays.with_images([{"pixel_values": values}], tmp_path / "nowhere")
    assert stretched["image"].min() == 0 and stretched["image"].max() == 255


def test_legend_names_the_classes_that_occur() -> None:
    shown = overlays.segmentation([scene(8)], ["sky", "road", "car"])
    assert [entry["name"] for entry in shown["legend"]] == ["sky", "road"]
    assert [entry["name"] for entry in overlays.segmentation([scene(8)], ["sky"])["legend"]] == [
        "sky",
        "class 1",
    ]


@pytest.mark.parametrize("count", [0, 1, 18, 19, 150, 256])
def test_palette_tells_classes_apart(count: int) -> None:
    colours = overlays.palette(count)
    assert colours.shape == (count, 3)
    assert len({tuple(colour) for colour in colours}) == count


def test_answers_are_marked_in_the_passage() -> None:
    same, differs, absent = (
        overlays.questions([row])[0] for row in (EXAMPLES["questions"][1], QUESTION, EXAMPLES["questions"][2])
    )
    assert same["same"] and '<mark class="float engine">1874</mark>' in same["context"]
    assert not differs["same"] and differs["right"] == {"float": True, "engine": False}
    assert '<mark class="float engine">1874</mark><mark class="engine"> in Marlow</mark>' in differs["context"]
    assert "<mark" not in absent["context"]
    long = {**QUESTION, "context": "word " * 400 + QUESTION["context"] + " word" * 400}
    context = overlays.questions([long])[0]["context"]
    assert "1874" in context and len(context) < 500 and context.startswith("… word")


def test_quantizer_rows_hold_placement_amax_and_marks(tmp_path: Path) -> None:
    blocks, notes = quantizers.groups(sample_workspace(tmp_path / "segformer"), "openvino")
    assert not notes
    (block,) = blocks
    assert (block.name, block.on) == ("encoder.0", 1)
    activation, weight = block.rows
    assert str(activation.short) == "query.<wbr>input" and activation.enabled is True
    assert weight.enabled is False and weight.channels == 2 and weight.picture is None
    # The placement says that 'mse' was used, although the table's method is percentile.
    assert {key: value.used for key, value in activation.amax.items()} == {
        "max": False,
        "percentile_99.99": False,
        "mse": True,
    }
    assert weight.amax["max"] == quantizers.Reading("0.250", "0.500", used=False)
    assert activation.picture is not None
    marks = re.findall(r'class="mark ([^"]*)" d="M([\d.]+) ', activation.picture)
    assert marks == [("m-max", "150.0"), ("m-percentile", "146.2"), ("m-mse used", "75.0")]


def test_sparkline_is_flat_for_a_uniform_distribution() -> None:
    statistic = Statistic()
    statistic.collect(np.linspace(0, 1, 200_001, dtype=np.float32))
    tops = [float(y) for y in re.findall(r"V([\d.]+)h", quantizers.sparkline(statistic, {}, None))]
    assert len(tops) == quantizers.BARS
    assert np.ptp(tops) < 1 and max(tops) < 6  # pixels from the top


@pytest.mark.parametrize(
    ("name", "block", "short"),
    [("bert.encoder.layer.3.output.dense.weight", "bert.encoder.layer.3", "output.dense.weight"),
     ("segformer.encoder.block.0.1.mlp.input", "segformer.encoder.block.0.1", "mlp.input"),
     ("decode_head.classifier.input", "decode_head.classifier", "input"),
     ("qa_outputs.input", "qa_outputs", "input"), ("input", "model", "input")],
)  # fmt: skip
def test_quantizers_are_grouped_by_block(name: str, block: str, short: str) -> None:
    assert quantizers.split(name) == (block, short)


def test_command_that_makes_the_report_again_holds_what_is_not_default() -> None:
    recorded = Recipe.load(
        "segformer",
        defaults=families.get("segformer").SETTINGS,
        overrides={"data": "my data", "calibration.method": "mse", "shapes.batches": [1, 2], "backend": "openvino"},
    ).model_dump(mode="json", exclude={"folder"})
    report = {"model": "streets", "family": "segformer", "budgets": {**recorded["budgets"], "agreement": 0.9}}
    words = shlex.split(summary.rebuild(report, recorded, Path("exports/streets")))
    assert words[:3] == ["make", "engine", "MODEL=segformer"]
    assert set(words[3:-1]) == {"DATA=my data", "CALIBRATION=mse", "BACKEND=openvino"}
    assert words[-1] == "ARGS=--output exports/streets --set 'shapes.batches=[1,2]' --set budgets.agreement=0.9"
    starred = summary.rebuild(report, {**recorded, "placement": {"disable": ["*.dense"]}}, Path("exports/streets"))
    assert shlex.split(shlex.split(starred)[-1])[5] == 'placement.disable=["*.dense"]'
    recorded["shapes"]["image_size"] = 256
    asked = summary.rebuild({**report, "image_size": {"engine": 256, "same": False}}, recorded, Path("exports/streets"))
    own = summary.rebuild({**report, "image_size": {"engine": 256, "same": True}}, recorded, Path("exports/streets"))
    assert "--set shapes.image_size=256" in asked and "image_size" not in own
    assert summary.rebuild({"family": "segformer"}, {}, Path("exports/segformer")) == "make engine MODEL=segformer"


def test_operators_are_ranked_by_time_and_split_by_precision() -> None:
    rows = summary.operators(sample_report()["precision_report"])
    assert [(row["type"], row["int8"], row["float"], row["ms"]) for row in rows] == [
        ("Convolution", 1, 1, 4.0),
        ("Softmax", 0, 1, 2.0),
    ]
    assert [row["bar"] for row in rows] == [{"int8": 75, "float": 25, "other": 0}, {"int8": 0, "float": 50, "other": 0}]
    untimed = summary.operators({"layers": [{"type": "MatMul", "precision": "u8"}]})
    bar = {"int8": 100, "float": 0, "other": 0}
    assert untimed == [{"type": "MatMul", "int8": 1, "float": 0, "other": 0, "ms": None, "bar": bar}]


def test_many_classes_are_cut_to_the_most_changed() -> None:
    rows = [{"name": f"class {i}", "float": 0.5, "engine": 0.5 - i / 1000} for i in range(150)]
    plot = plots.per_class(rows, "mIoU")
    assert plot is not None and "the 40 most changed" in plot
    assert ">class 149<" in plot and ">class 109<" not in plot


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.share(0.99999), "99.99 %"),
        (formats.share(1.0), "100.00 %"),
        (formats.share(None), "–"),
        (formats.significant(0), "0"),
        (formats.significant(1234.5), "1234"),
        (formats.significant(0.00123456), "0.00123"),
        (formats.significant(1.5e-7), "1.50e-7"),
        (formats.significant(2.5e8), "2.50e8"),
        (formats.signed(-0.00001), "0.0000"),
        (formats.signed(-0.5, 1), "−0.5"),
        (formats.signed(0.5, 1), "+0.5"),
        (formats.milliseconds(50.46), "50.5 ms"),
        (formats.seconds(9.94), "9.9 s"),
        (formats.seconds(185), "3 min 05 s"),
        (formats.size(0), "0 B"),
        (formats.size(1023), "1023 B"),
        (formats.size(1536), "1.5 KiB"),
        (formats.size(200 * 2**20), "200 MiB"),
        (formats.plain(float("inf")), "–"),
        (formats.plain(True), "–"),
        (formats.ratio(3, 0), "–"),
        (formats.ratio(3, 2), "1.50×"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 1e30])
def test_a_tensor_of_one_value_has_a_row_and_zeros_no_histogram(value: float) -> None:
    """A projection whose weights are all zero gives only zeros: a histogram without a bin."""
    statistic = Statistic(name="a.query.output")
    statistic.collect(np.full(100, value, np.float32))
    row = quantizers._row("a.query.output", "output", {}, None, statistic, None)
    assert (row.picture is None) == (value == 0)


def test_samples_without_a_score_are_not_drawn() -> None:
    """An image without a labelled pixel has none."""
    nan = float("nan")
    drawn = plots.per_sample([1.0, nan, 0.5, nan], [0.5, nan, 0.5, 1.0], "mIoU")
    assert drawn is not None and "1 of 2 samples, unchanged, are not drawn" in drawn
    assert plots.per_sample([nan, nan], [nan, nan], "mIoU") is None
    assert plots.per_sample([], [], "mIoU") is None
    same = plots.per_sample([nan, 1.0], [nan, 1.0], "mIoU")
    assert same is not None and "None of the 1 samples changed" in same
