"""A file that users or others make is damaged: it is read, or refused with an error of ours that names it.

Bytes of checkpoints, data, recipes, baselines and QDQ graphs are flipped, cut, doubled, or changed by the grammar of
JSON; and hypothesis makes up data files of its own. `python -m campaign.files SECONDS` lets atheris, where it is
installed, look for inputs that reach new lines of the readers.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from campaign.bed import OLD, Bed
from pipeline.errors import PipelineError
from pipeline.recipe import Recipe

TRIALS = 400
WORDS = (b"null", b"-1", b"1e999", b'""', b"[]", b"{}", b"true", b"0", b"\xff\xfe", b"\x00", b"99999999999999999999")


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns the content with one to three accidents."""
    made = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(made) + 1))
        end = place + int(rng.integers(1, 64))
        kind = int(rng.integers(6))
        if kind == 0 and place < len(made):
            made[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del made[place:]
        elif kind == 2:
            del made[place:end]
        elif kind == 3:
            made[place:place] = made[place:end]
        elif kind == 4:
            made[place:place] = rng.bytes(end - place)
        else:
            made[place:end] = WORDS[int(rng.integers(len(WORDS)))]
    return bytes(made)


def retold(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns a JSON file with one value of it replaced by another kind of value; other content only damaged."""
    try:
        document = json.loads(content)
    except ValueError:
        return damaged(content, rng)
    places: list[tuple[list | dict, int | str]] = []

    def walk(value: object) -> None:
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):  # type: ignore[attr-defined]
            places.append((value, key))  # type: ignore[arg-type]
            if isinstance(below, (dict, list)):
                walk(below)

    if isinstance(document, (dict, list)):
        walk(document)
    if not places:
        return damaged(content, rng)
    holder, key = places[int(rng.integers(len(places)))]
    others = (None, True, -1, 0, 10**12, 0.5, float("nan"), "", "x", "\ud800", [], {}, [[]], {"0": None}, [1, "a"])
    if rng.random() < 0.2:
        del holder[key]  # type: ignore[arg-type]
    else:
        holder[key] = others[int(rng.integers(len(others)))]  # type: ignore[index]
    return json.dumps(document).encode()


# --- what reads a file: each takes the bed, the folder or file, and its family ---


def quantize(bed: Bed, family: str, **given: Path) -> None:
    from pipeline.stages import build

    build.run_stage("quantize", bed.recipe(family, bed.folder(), **given))


def of_checkpoint(bed: Bed, rng: np.random.Generator, change: Callable[..., bytes]) -> None:
    family = str(rng.choice(["bert", "segformer"]))
    folder = Path(shutil.copytree(bed.checkpoints[family], bed.folder() / "checkpoint"))
    path = folder / str(rng.choice(sorted(p.name for p in folder.iterdir())))
    path.write_bytes(change(path.read_bytes(), rng))
    quantize(bed, family, checkpoint=folder)


def of_data(bed: Bed, rng: np.random.Generator, change: Callable[..., bytes]) -> None:
    family = str(rng.choice(["bert", "segformer"]))
    if family == "bert":
        path = given = bed.folder() / "squad.json"
        shutil.copy(bed.data["bert"], path)
    else:
        given = Path(shutil.copytree(bed.data["segformer"], bed.folder() / "scenes"))
        path = given / str(rng.choice(["images", "masks"])) / f"{int(rng.integers(8)):03}.png"
    path.write_bytes(change(path.read_bytes(), rng))
    quantize(bed, family, data=given)


def of_recipe(bed: Bed, rng: np.random.Generator, change: Callable[..., bytes]) -> None:
    path = bed.folder() / str(rng.choice(["recipe.yaml", "recipe.toml"]))
    text = (
        'seed = 1\n[calibration]\nmethod = "mse"\nsamples = 8\n[shapes]\nbatches = [1, 2]\n[tensorrt]\ntarget = 8.6\n'
    )
    if path.suffix == ".yaml":
        text = "seed: 1\ncalibration: {method: mse, samples: 8}\nshapes: {batches: [1, 2]}\ntensorrt: {target: 8.6}\n"
    path.write_bytes(damaged(text.encode(), rng))
    Recipe.load("bert", path)


def of_baseline(bed: Bed, rng: np.random.Generator, change: Callable[..., bytes]) -> None:
    from pipeline.report import baseline
    from pipeline.stages.build import read_report

    folder = bed.copy("bert")
    report = read_report(bed.recipe("bert", folder, **OLD))
    baseline.store(report, folder)
    path = folder / baseline.FILE
    path.write_bytes(change(path.read_bytes(), rng))
    baseline.compare(report, baseline.read(folder))


def of_graph(bed: Bed, rng: np.random.Generator, change: Callable[..., bytes]) -> None:
    from pipeline.lint import lint, text

    source = bed.built[str(rng.choice(["bert", "segformer"]))] / "onnxruntime" / "model.qdq.onnx"
    path = bed.folder() / "model.onnx"
    path.write_bytes(change(source.read_bytes(), rng))
    assert list(text.lines(lint(path)))


def made_up(bed: Bed, rng: np.random.Generator, change: Callable[..., bytes]) -> None:
    """JSON of hypothesis, with the keys of SQuAD among its words."""
    import hypothesis
    from hypothesis import strategies as st

    keys = st.sampled_from(
        ["data", "paragraphs", "context", "qas", "question", "answers", "text", "answer_start", "id"]
    )
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    anything = st.recursive(leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(keys, x, max_size=4))
    path = bed.folder() / "made-up.json"

    @hypothesis.seed(int(rng.integers(1 << 31)))
    @hypothesis.settings(max_examples=5, deadline=None, database=None)
    @hypothesis.given(anything)
    def read(document: object) -> None:
        path.write_text(json.dumps(document), encoding="utf-8")
        refused(lambda: quantize(bed, "bert", data=path))

    read()


READERS = {
    "checkpoint": of_checkpoint,
    "data": of_data,
    "recipe": of_recipe,
    "baseline": of_baseline,
    "graph": of_graph,
    "made-up data": made_up,
}


def refused(read: Callable[[], None]) -> bool:
    """Returns whether a reader refuses what it is given, as it should: in a few words, not in a library's."""
    try:
        read()
    except PipelineError as error:
        assert 10 < len(str(error)) < 4000, str(error)
        return True
    return False


def trial(bed: Bed, rng: np.random.Generator) -> str:
    name = str(rng.choice(sorted(READERS)))
    change = retold if rng.random() < 0.5 else damaged
    said = "refused" if refused(lambda: READERS[name](bed, rng, change)) else "read"
    for folder in bed.root.glob("new-*"):
        shutil.rmtree(folder)
    return f"{name}: {'held' if name == 'made-up data' else said}"


def explore(seconds: int) -> None:
    """Lets atheris look for bytes that no reader of data expects."""
    import tempfile

    import atheris

    with atheris.instrument_imports(include=["pipeline.tasks", "pipeline.checkpoint", "pipeline.recipe"]):
        from pipeline.tasks import question_answering  # noqa: F401
    bed = Bed(Path(tempfile.mkdtemp(prefix="campaign-")))
    path = bed.folder() / "data.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        refused(lambda: quantize(bed, "bert", data=path))

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096"], read)
    atheris.Fuzz()


if __name__ == "__main__":
    explore(int(sys.argv[1]))
