"""An artifact folder is known by its content: wherever it lies it works, and what is not as it was made is refused."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline
from helpers import qdq_models as models
from helpers import tiny
from helpers.command_line import Cli, printed, recipe_of
from helpers.runs import snapshot
from helpers.usable import USABLE
from pipeline import backends, stages
from pipeline.artifacts import MANIFEST, Manifest, Workspace, commands
from pipeline.errors import ArtifactError, PipelineError
from pipeline.recipe import Recipe
from pipeline.report import baseline, summary
from pipeline.stages import build

BACKEND = USABLE[0]
ENGINE = tuple(f"{BACKEND}/{file}" for file in backends.get(BACKEND).FILES)
PREPARING = ("config.json", "quantizers.json", "tokenizer.json", "tokenizer_config.json")
# what each relies on, beside the manifest; nothing else that lies in the folder
LOADED = {*ENGINE, f"{BACKEND}/engine.json", f"{BACKEND}/report.json", "report.json", *PREPARING}
CHECKED = {
    *ENGINE, *(f"{BACKEND}/{file}" for file in ("engine.json", "exact.npz", "model.qdq.onnx", "placement.json")),
    *PREPARING, "model.onnx", "reference.npz", "calibration.json", "baseline.json",
}  # fmt: skip
OTHERS = {"report.html"}
FILES = sorted(LOADED | CHECKED | OTHERS)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of a small model with its engine, its verdict, and a baseline of another machine."""
    folder = tmp_path_factory.mktemp("exports") / "small"
    workspace = models.export(folder, BACKEND)
    kept = {file: (folder / file).read_bytes() for file in ("quantizers.json", "config.json")}
    with workspace.staging("quantize", {}, {"seconds": 1.0, "peak_rss_bytes": 1}) as area:
        for file, content in kept.items():
            (area / file).write_bytes(content)
        tiny.tokenizer(tiny.VOCABULARY).save(str(area / "tokenizer.json"))
        (area / "tokenizer_config.json").write_text("{}")
    recipe = models.recipe(folder, BACKEND, **{"budgets.speedup": 0.0})
    for name in ("engine", "verify"):
        stages.run(name, recipe)
    report = build.read_report(recipe)
    report["environment"]["cpu"] = "another"  # so that no noise of the clock is a regression
    baseline.store(report, folder)
    return folder


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "small"))


def flip(path: Path, at: int = -1) -> None:
    """Changes one bit, by default in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at < 0 else at] ^= 1
    path.write_bytes(content)


def check(cli: Cli, folder: Path, verb: str = "check") -> Any:
    return cli(verb, "bert", "--output", folder)


# --- every file that is relied on ---


def test_the_files_are_all_listed_here(original: Path) -> None:
    assert sorted(file for file in snapshot(original) if file != MANIFEST) == FILES


@pytest.mark.parametrize("file", FILES)
def test_load_engine_refuses_a_flipped_bit_or_does_without_the_file(file: str, copy: Path) -> None:
    if file not in LOADED:
        (copy / file).unlink()
        assert pipeline.load_engine(copy, threads=1).backend == BACKEND
        return
    flip(copy / file)
    with pytest.raises(ArtifactError, match=f"{file} was altered"):
        pipeline.load_engine(copy, threads=1)


@pytest.mark.parametrize("file", FILES)
def test_check_refuses_a_flipped_bit_or_does_without_the_file(file: str, copy: Path, cli: Cli) -> None:
    if file not in CHECKED:
        (copy / file).unlink()
        assert check(cli, copy).code == 0
        return
    flip(copy / file)
    answer = check(cli, copy)
    assert answer.code == 2 and answer.out == "" and str(copy / file) in answer.err


@pytest.mark.parametrize("share", np.linspace(0, 0.999, 23))
def test_a_flipped_bit_of_the_manifest_is_seen_or_changes_nothing(share: float, copy: Path) -> None:
    before = Manifest.read(copy)
    flip(copy / MANIFEST, int(share * (copy / MANIFEST).stat().st_size))
    try:
        after = Workspace(copy).manifest
    except ArtifactError:
        return
    assert after == before, "white space"


def test_a_stage_refuses_altered_files_of_the_checkpoint(copy: Path) -> None:
    flip(copy / "tokenizer.json")
    for name in ("engine", "verify"):
        with pytest.raises(ArtifactError, match=r"tokenizer\.json was altered"):
            stages.run(name, models.recipe(copy, BACKEND), force=True)


def test_a_loaded_engine_prepares_inputs_as_it_was_loaded(copy: Path) -> None:
    """Files that are replaced later belong to another engine."""
    engine = pipeline.load_engine(copy, threads=1)
    before, _ = engine.preprocess("the red boat")
    other = tiny.tokenizer((*tiny.VOCABULARY[:5], *reversed(tiny.VOCABULARY[5:])))
    other.save(str(copy / "tokenizer.json"))
    shutil.rmtree(copy / BACKEND)
    after, _ = engine.preprocess("the red boat")
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    outputs = engine({"x": np.ones((1, models.WIDTH), np.float32)})
    assert engine.postprocess(outputs, {"class_names": np.array(list("abcd"))})[0] in "abcd"


# --- wherever it lies ---


def moved(folder: Path, root: Path) -> Path:
    return Path(shutil.move(folder, root / "elsewhere" / "bert"))


def linked(folder: Path, root: Path) -> Path:
    (root / "link").symlink_to(folder, target_is_directory=True)
    return root / "link"


def inside(folder: Path, root: Path) -> Path:
    os.chdir(folder)
    return Path()


def named(name: str) -> Callable[[Path, Path], Path]:
    return lambda folder, root: folder.rename(root / name)


PLACES: dict[str, Callable[[Path, Path], Path]] = {
    "renamed": named("segformer"),  # the name of another family
    "copied": lambda folder, root: Path(shutil.copytree(folder, root / "copy")),
    "moved": moved,
    "link": linked,
    "relative": lambda folder, root: Path(os.path.relpath(folder, root)),
    "present folder": inside,
    "space": named("an engine"),
    "unicode": named("Übung 日本"),
    "quotes": named('it\'s `"so"`'),
    "dollar": named("$HOME #1; (x)"),
    "dash": named("-x"),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, copy: Path, tmp_path: Path) -> Iterator[Path]:
    """Yields the folder, made as `small`, where it lies and as it is called now."""
    (tmp_path / "elsewhere").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        yield PLACES[request.param](copy, tmp_path)


def test_it_works_wherever_it_lies(place: Path, original: Path, cli: Cli) -> None:
    engine, same = (pipeline.load_engine(folder, threads=1) for folder in (place, original))
    feeds = models.feeds(original / BACKEND / "model.qdq.onnx", 2)
    np.testing.assert_array_equal(engine(feeds)["logits"], same(feeds)["logits"])
    answer = check(cli, place)
    assert answer.code == 0, answer.err
    assert build.read_report(Recipe.load("bert", overrides={"folder": place}))["model"] == place.absolute().name
    settings = ("--backend", BACKEND, "--set", "budgets.speedup=0", "--set", "verification.runs=6")
    again = cli("engine", "bert", "--output", place, "--from", "engine", *settings)
    assert again.code == 0 and "verify: running" in again.err, again.err
    rows = json.loads(cli("status", "bert", "--output", place, "--json", *settings).out)
    assert {row["stage"]: row["up_to_date"] for row in rows}["verify"]


def test_what_is_printed_there_runs_there(place: Path, cli: Cli) -> None:
    """The command of every error is one that the command line takes, for the same folder and the same settings."""
    made = Workspace(place).manifest.recipe
    flip(place / BACKEND / "engine.json")
    answer = check(cli, place)
    (words,) = printed(answer.err)
    assert answer.code == 2 and words[0] == "engine"
    assert (recipe_of(words).folder.resolve(), recipe_of(words).recorded()) == (place.resolve(), made)


def test_a_folder_that_cannot_be_written_is_only_read(copy: Path) -> None:
    before = snapshot(copy)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        engine = pipeline.load_engine(copy, threads=1)
        engine(models.feeds(copy / BACKEND / "model.qdq.onnx", 2))
        engine.preprocess("the red boat")
        assert snapshot(copy) == before and not list(copy.glob(".*.partial"))
    finally:
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)


# --- what is printed ---

USERS = {
    "checkpoint": "my models/it's best", "data": "données.json", "calibration.method": "mse", "seed": 4,
    "placement.disable": ["*.dense", "it's"], "rewrites": False, "tensorrt.target": "8.6",
    "budgets.relative_drop": 1e-05, "shapes.batches": [1, 3],
}  # fmt: skip


def damage_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("[]")


def relower(folder: Path) -> None:
    models.lower(Workspace(folder), BACKEND, signed=BACKEND == "onnxruntime")


def unjudge(folder: Path) -> None:
    relower(folder)
    stages.run("engine", models.recipe(folder, BACKEND, **{"budgets.speedup": 0.0}))


SITUATIONS: dict[str, tuple[Callable[[Path], Any], Callable[[Path, Recipe], Any], str]] = {
    "altered": (lambda f: flip(f / BACKEND / "engine.json"), lambda f, r: pipeline.load_engine(f), "engine"),
    "altered in verify": (lambda f: flip(f / "reference.npz"), lambda f, r: stages.run("verify", r), "engine"),
    "missing": (lambda f: (f / ENGINE[0]).unlink(), lambda f, r: pipeline.load_engine(f), "engine"),
    "not judged": (unjudge, lambda f, r: pipeline.load_engine(f), "verify"),
    "another graph": (relower, lambda f, r: stages.run("verify", r), "engine"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), lambda f, r: stages.run("verify", r), "engine"),
    "damaged manifest": (damage_manifest, lambda f, r: stages.run("verify", r), "engine"),
    "no baseline": (lambda f: (f / "baseline.json").unlink(), lambda f, r: baseline.read(f), "engine"),
    "edited baseline": (lambda f: flip(f / "baseline.json", 30), lambda f, r: baseline.read(f), "engine"),
}


@pytest.mark.parametrize("name", ["small", "an engine", "it's $x"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_command_is_taken_for_the_same_folder_and_settings(
    situation: str, name: str, original: Path, tmp_path: Path
) -> None:
    spoil, use, verb = SITUATIONS[situation]
    folder = Path(shutil.copytree(original, tmp_path / name))
    spoil(folder)
    recipe = models.recipe(folder, BACKEND, **USERS)
    if "manifest" not in situation:
        manifest = Manifest.read(folder)
        manifest.recipe = recipe.recorded()
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    with pytest.raises(PipelineError, match="-m pipeline ") as error:
        use(folder, recipe)
    (words,) = printed(error.value)
    assert words[0] == verb and recipe_of(words) == recipe
    assert ("--store-baseline" in words) == ("baseline" in situation)


def test_a_command_without_a_recipe_is_not_made_up(copy: Path) -> None:
    damage_manifest(copy)
    with pytest.raises(ArtifactError, match=r"not a manifest.*remove it and run again the command that made"):
        pipeline.load_engine(copy)


def test_a_command_runs_as_printed(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shell, from another folder than the project's, with a name that a shell would take apart."""
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(original, tmp_path / "it's $x; (y)"))
    unjudge(folder)
    with pytest.raises(ArtifactError, match="has no verdict of its own") as error:
        pipeline.load_engine(folder)
    line = str(error.value).partition("run `")[2].rpartition("`; ")[0]
    root = Path(pipeline.__file__).parent.parent
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(root)})  # fmt: skip
    assert done.returncode == 0 and "PASS" in done.stdout, done.stderr
    assert pipeline.load_engine(folder, threads=1).backend == BACKEND


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_command_of_make_reaches_the_command_line_whole(tmp_path: Path) -> None:
    odd = 'it\'s $x, "y" #1'
    recipe = models.recipe(tmp_path / odd, "auto", checkpoint=odd, data=odd, **{"placement.disable": [odd]})
    line = summary.rebuild({"family": "bert"}, recipe.recorded(), recipe.folder)
    root = Path(pipeline.__file__).parent.parent
    # `make test` hands its own flags down, with which the inner make would print the folder that it enters and leaves.
    outside = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        f"{line} --dry-run", shell=True, cwd=root, env=outside, capture_output=True, text=True, timeout=60
    )
    assert recipe_of(shlex.split(done.stdout.rpartition("-m pipeline ")[2])) == recipe, done


@pytest.mark.parametrize(
    ("found", "here", "expected"),
    [("/a/bin/python", "/a/bin/python3", "python"), ("/usr/bin/python", "/a/bin/python", "/a/bin/python"),
     (None, "/p/.venv/bin/python", ".venv/bin/python"), (None, "", "python")],
)  # fmt: skip
def test_the_interpreter_is_the_present_one(
    found: str | None, here: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: found)
    monkeypatch.setattr(sys, "executable", here)
    monkeypatch.setattr(Path, "cwd", lambda: Path("/p"))
    monkeypatch.setattr(os, "getcwd", lambda: "/p")
    assert commands.interpreter() == expected


def test_a_stage_that_reads_no_checkpoint_says_nothing_of_it(copy: Path) -> None:
    """A machine that only builds engines is not told the checkpoint: the folder still says which it was made from."""
    edited(copy, lambda value: value["recipe"].update(checkpoint="my/own", data="my.json"))
    stages.run("verify", models.recipe(copy, BACKEND), force=True)
    recorded = Workspace(copy).manifest.recipe
    assert (recorded["checkpoint"], recorded["data"]) == ("my/own", "my.json")


def test_no_message_writes_a_command_of_its_own() -> None:
    """One module makes them; others tell of commands in docstrings, and the verbs in their help."""
    root, found = Path(pipeline.__file__).parent, {}
    for path in set(root.rglob("*.py")) - {root / "artifacts" / "commands.py", root / "cli" / "engines.py"}:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [str(x.value) for x in ast.walk(tree) if isinstance(x, ast.Constant) and id(x) not in prose]
        found[path] = [text for text in texts if re.search(r"-m pipeline |make \w+ MODEL|`make ", text)]
    assert {path: texts for path, texts in found.items() if texts} == {}


# --- what is refused ---


def edited(folder: Path, edit: Callable[[dict[str, Any]], Any], *, sealed: bool = True) -> None:
    """Edits a manifest as a person does, or as a program that gives it a right digest."""
    value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    edit(value)
    if sealed:
        manifest = Manifest(value["files"], value["stages"], value["recipe"])
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    else:
        (folder / MANIFEST).write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("name", ["../config.json", "/tmp/x", "openvino/../../x", "a\\b", "", ".", "./config.json"])
def test_a_manifest_lists_files_of_its_folder_alone(name: str, copy: Path, cli: Cli) -> None:
    """The stage of a file removes it where it is not made any more: one outside would be lost."""
    edited(copy, lambda value: value["files"].update({name: value["files"]["config.json"]}))
    with pytest.raises(ArtifactError, match=r"is not a manifest .*is no name of a file in the folder"):
        pipeline.load_engine(copy)
    assert check(cli, copy).code == 2


@pytest.mark.parametrize("file", [*ENGINE, "config.json", BACKEND])
def test_a_link_that_leads_out_of_the_folder_is_refused(file: str, copy: Path, tmp_path: Path, cli: Cli) -> None:
    outside = shutil.move(copy / file, tmp_path / "outside")
    (copy / file).symlink_to(outside)
    with pytest.raises(ArtifactError, match=r"leads to .*, outside of the folder"):
        pipeline.load_engine(copy)
    answer = check(cli, copy)
    assert answer.code == 2 and "outside of the folder" in answer.err


def test_nothing_is_written_through_a_link_that_leads_out(copy: Path, tmp_path: Path) -> None:
    outside = Path(shutil.move(copy / BACKEND, tmp_path / "outside"))
    (copy / BACKEND).symlink_to(outside)
    before = snapshot(outside)

    def write() -> None:
        with Workspace(copy).staging(f"lower/{BACKEND}", {}, {}) as area:
            (area / BACKEND).mkdir()
            (area / BACKEND / "model.qdq.onnx").write_text("x")

    with pytest.raises(ArtifactError, match="outside of the folder"):
        write()
    assert snapshot(outside) == before and not list(copy.glob(".*.partial"))


def test_a_link_inside_the_folder_is_followed(copy: Path) -> None:
    (copy / "config.json").rename(copy / "stored")
    (copy / "config.json").symlink_to("stored")
    assert pipeline.load_engine(copy, threads=1).backend == BACKEND


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda v: v.update(format=2), "has format 2, this version reads 1"),
        (lambda v: v.update(format="1"), "has format '1'"),
        (lambda v: v["recipe"].update(seed=5), "was changed after it was written"),
        (lambda v: v["files"]["config.json"].update(sha256="0" * 64), "was changed after it was written"),
        (lambda v: v["stages"].pop("verify/" + BACKEND), "was changed after it was written"),
        (lambda v: v.update(note="mine"), "was changed after it was written"),
        (lambda v: (v.pop("digest"), v.update(files=[])), r"is not a manifest \(files: "),
        (lambda v: (v.pop("digest"), v["stages"].update(quantize=3)), r"is not a manifest \(stages\.quantize: "),
        (lambda v: (v.pop("digest"), v["files"].update(x={})), r"is not a manifest \(files\.x\.sha256: "),
    ],
)
def test_an_edited_manifest_is_refused(edit: Callable[[Any], Any], said: str, copy: Path, cli: Cli) -> None:
    edited(copy, edit, sealed=False)
    with pytest.raises(ArtifactError, match=said):
        pipeline.load_engine(copy)
    for verb in ("check", "verify", "status", "engine"):
        assert check(cli, copy, verb).code == 2


def test_a_manifest_of_before_they_had_a_digest_is_read(copy: Path) -> None:
    edited(copy, lambda value: value.pop("digest"), sealed=False)
    assert pipeline.load_engine(copy, threads=1).backend == BACKEND


@pytest.mark.parametrize("files", [(MANIFEST,), ENGINE, (BACKEND,), ("report.json", f"{BACKEND}/report.json")])
def test_files_of_two_folders_do_not_mix(files: tuple[str, ...], copy: Path, tmp_path: Path, cli: Cli) -> None:
    """Of the same model and the same names, one with other weights."""
    other = tmp_path / "other"
    models.export(other, BACKEND, lambda path, **options: models.linear(path, **{**options, "seed": 5}))
    for name in ("engine", "verify"):
        stages.run(name, models.recipe(other, BACKEND, **{"budgets.speedup": 0.0}))
    for file in files:
        if (copy / file).is_dir():
            shutil.rmtree(copy / file)
            shutil.copytree(other / file, copy / file)
        else:
            shutil.copy(other / file, copy / file)
    with pytest.raises(ArtifactError, match=r"was altered|is missing"):
        pipeline.load_engine(copy)
    if "report.json" not in files:  # which check makes anew
        assert check(cli, copy).code == 2


def test_a_folder_inside_another_is_refused(copy: Path, original: Path, cli: Cli) -> None:
    nested = Path(shutil.copytree(original, copy / "old" / "small"))
    for folder in (nested, copy / BACKEND):
        with pytest.raises(ArtifactError, match=f"lies inside the artifact folder {copy}; give that, or move it out"):
            pipeline.load_engine(folder)
        before = snapshot(copy)
        for verb in ("verify", "engine"):
            answer = check(cli, folder, verb)
            assert answer.code == 2 and "lies inside the artifact folder" in answer.err
        assert snapshot(copy) == before
    assert pipeline.load_engine(copy, threads=1).backend == BACKEND


def test_a_manifest_of_something_else_further_up_is_none_of_ours(copy: Path) -> None:
    (copy.parent / MANIFEST).write_text('{"name": "a web page", "icons": []}')
    assert pipeline.load_engine(copy, threads=1).backend == BACKEND


def test_a_folder_of_another_family_is_not_checked(copy: Path, cli: Cli) -> None:
    answer = cli("check", "segformer", "--output", copy)
    assert answer.code == 2 and f"{copy} was made from a bert checkpoint, not segformer" in answer.err
