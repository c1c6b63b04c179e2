"""The artifact folder: a stage appears whole or not at all, whatever happens when, and nothing altered is read."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import ROOT
from helpers.command_line import printed
from helpers.messages import all_of
from helpers.runs import snapshot
from pipeline import stages
from pipeline.artifacts import MANIFEST, Manifest, Workspace
from pipeline.errors import ArtifactError, InputError
from pipeline.files import digest_path, sha256, write_atomic
from pipeline.recipe import Recipe
from pipeline.stages.build import locked

FAULTS: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: RuntimeError("a fault"),
    "ctrl-c": KeyboardInterrupt,
    "full disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "quota": lambda: OSError(errno.EDQUOT, "Disk quota exceeded"),
    "input-output error": lambda: OSError(errno.EIO, "Input/output error"),
}
FULL = ("full disk", "quota")


def write(workspace: Workspace, stage: str = "export", **files: str) -> None:
    """Runs a stage that writes files; '__' stands for the folder separator, '_' for the dot."""
    with workspace.staging(stage, {"code": "1"}, {"seconds": 1.0}) as area:
        for name, content in files.items():
            path = area / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Returns a folder with the files of two stages."""
    made = Workspace(tmp_path / "exports" / "bert")
    write(made, "quantize", config_json="{}")
    write(made, "export", a_txt="one", b_txt="two", sub__c_txt="three")
    return made


def test_files_are_recorded_with_digest_size_and_stage(workspace: Workspace) -> None:
    path = workspace.path("sub/c.txt")
    assert path.read_text(encoding="utf-8") == "three"
    record = workspace.manifest.files["sub/c.txt"]
    assert record == {"sha256": sha256(path), "bytes": 5, "stage": "export"}
    assert workspace.manifest.stages["export"]["files"] == ["a.txt", "b.txt", "sub/c.txt"]
    assert workspace.manifest.stages["export"]["inputs"] == {"code": "1"}


def test_a_second_run_replaces_its_files_and_removes_what_it_no_longer_makes(workspace: Workspace) -> None:
    write(workspace, "export", a_txt="new", d_txt="four")
    assert sorted(snapshot(workspace.folder)) == ["a.txt", "config.json", "d.txt", MANIFEST]
    assert workspace.path("a.txt").read_text(encoding="utf-8") == "new"
    assert workspace.intact("config.json"), "other stages are not touched"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_inside_a_stage_leaves_everything_as_it_was(fault: str, workspace: Workspace) -> None:
    before = snapshot(workspace.folder)
    error = FAULTS[fault]()
    expected = InputError if fault in FULL else type(error)
    said = ("the disk is full", "'export'", "Earlier artifacts are unchanged") if fault in FULL else (str(error),)

    def write_half() -> None:
        with workspace.staging("export", {}, {}) as area:
            (area / "a.txt").write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(expected, match=all_of(*said)):
        write_half()
    assert snapshot(workspace.folder) == before
    assert not list(workspace.folder.glob(".*")), "the staging folder is gone"


# everything that the commit asks of the file system
CALLS = (
    "pathlib.Path.replace",
    "pathlib.Path.unlink",
    "pathlib.Path.mkdir",
    "os.fsync",
    "os.link",
    "pathlib.Path.write_text",
)


@pytest.mark.parametrize("fault", ["ctrl-c", "full disk", "exception"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_a_fault_at_any_moment_of_the_commit_changes_nothing(
    call: str, when: str, fault: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails at the first, second, third … call, until a run gets through."""
    owner, _, attribute = call.rpartition(".")
    target: Any = Path if owner.endswith("Path") else os
    original = getattr(target, attribute)
    before = snapshot(workspace.folder)
    faults = 0
    for nth in range(100):
        calls = [0]

        def faulty(*args: Any, calls: list[int] = calls, nth: int = nth, **kwargs: Any) -> Any:
            calls[0] += 1
            hit = calls[0] == nth + 1
            if hit and when == "before":
                raise FAULTS[fault]()
            result = original(*args, **kwargs)
            if hit:
                raise FAULTS[fault]()
            return result

        raised = False
        try:
            with monkeypatch.context() as patch, workspace.staging("export", {"run": nth}, {}) as area:
                (area / "a.txt").write_bytes(b"new")
                (area / "e.txt").write_bytes(b"five")
                patch.setattr(target, attribute, faulty)
        except (KeyboardInterrupt, InputError, RuntimeError):
            raised = True
        if not raised:
            break
        faults += 1
        assert snapshot(workspace.folder) == before, f"call {nth + 1}"
        assert not list(workspace.folder.glob(".*"))
    assert faults > 0 and nth < 99
    assert sorted(snapshot(workspace.folder)) == ["a.txt", "config.json", "e.txt", MANIFEST]
    assert all(workspace.intact(name) for name in workspace.manifest.files)


def test_a_killed_run_leaves_the_folder_readable_and_the_next_run_cleans_up(workspace: Workspace) -> None:
    code = f"""
import sys, time
from pipeline.artifacts import Workspace
from pathlib import Path
with Workspace(Path({str(workspace.folder)!r})).staging("export", {{}}, {{}}) as area:
    (area / "a.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    before = snapshot(workspace.folder)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = list(workspace.folder.glob(".*.partial"))
    assert len(left) == 1
    assert all(workspace.intact(name) for name in workspace.manifest.files)
    (workspace.folder / f".{MANIFEST}.123.partial").write_text("{", encoding="utf-8")
    with locked(Recipe.load("bert", overrides={"folder": workspace.folder})):
        assert not list(workspace.folder.glob(".*.partial"))
    assert snapshot(workspace.folder) == before


def test_ctrl_c_as_a_signal(workspace: Workspace) -> None:
    before = snapshot(workspace.folder)
    code = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background ignores it
from pipeline.artifacts import Workspace
from pathlib import Path
with Workspace(Path({str(workspace.folder)!r})).staging("export", {{}}, {{}}) as area:
    (area / "a.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    assert snapshot(workspace.folder) == before and not list(workspace.folder.glob(".*"))


# --- reading ---


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_text("ond", encoding="utf-8"), "was altered: its digest does not match"),
        (lambda p: p.write_text("one and more", encoding="utf-8"), "was altered"),
        (lambda p: p.write_text("", encoding="utf-8"), "was altered"),
        (lambda p: p.unlink(), "is missing"),
        (lambda p: (p.unlink(), p.mkdir()), "is missing"),
    ],
    ids=["altered", "longer", "empty", "missing", "a-folder"],
)
def test_nothing_altered_is_read(damage: Callable[[Path], object], message: str, workspace: Workspace) -> None:
    damage(workspace.folder / "a.txt")
    with pytest.raises(ArtifactError, match=message) as error:
        workspace.path("a.txt")
    assert "run again the command that made the folder" in str(error.value), "which nothing says here"
    with pytest.raises(ArtifactError, match=message) as error:
        Workspace(workspace.folder, Recipe.load("bert", overrides={"folder": workspace.folder})).path("a.txt")
    assert printed(error.value) == [["engine", "bert", "--output", str(workspace.folder)]]
    assert not workspace.intact("a.txt") and workspace.intact("b.txt")


def test_a_file_that_no_stage_made_is_not_read(workspace: Workspace) -> None:
    (workspace.folder / "gift.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ArtifactError, match="nothing vouches for it"):
        workspace.path("gift.txt")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99, "files": {}, "stages": {}}'])
def test_a_manifest_that_cannot_be_read_is_an_error(content: str, workspace: Workspace) -> None:
    (workspace.folder / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"manifest\.json (is not a manifest|has format 99).*; remove it and run"):
        workspace.path("a.txt")


def test_no_folder_is_an_empty_manifest(tmp_path: Path) -> None:
    assert Workspace(tmp_path / "nothing").manifest.files == {}
    with pytest.raises(ArtifactError, match="missing"):
        Workspace(tmp_path / "nothing").path("a.txt")


def test_a_digest_is_the_recorded_one(workspace: Workspace) -> None:
    assert workspace.digest("a.txt") == sha256(workspace.folder / "a.txt") and workspace.digest("z.txt") is None


def test_the_files_of_a_stage_are_checked(workspace: Workspace) -> None:
    assert workspace.paths_of("export") == [workspace.folder / name for name in ("a.txt", "b.txt", "sub/c.txt")]
    with pytest.raises(ArtifactError, match="has no files of stage 'lower'; run again"):
        workspace.paths_of("lower")
    (workspace.folder / "sub" / "c.txt").write_text("another")
    with pytest.raises(ArtifactError, match=r"c\.txt was altered"):
        workspace.paths_of("export")


def test_what_was_altered_is_told_by_twelve_digits_and_its_stage(workspace: Workspace) -> None:
    digest = workspace.digest("a.txt")
    (workspace.folder / "a.txt").write_text("ond")
    with pytest.raises(ArtifactError, match=rf"that stage 'export' recorded \({str(digest)[:12]}…\); run"):
        workspace.path("a.txt")


def test_a_link_that_leads_out_of_the_folder_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.txt").write_text("one")
    (workspace.folder / "a.txt").unlink()
    (workspace.folder / "a.txt").symlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(ArtifactError, match=r"leads to .*elsewhere\.txt, outside of the folder"):
        workspace.path("a.txt")
    (workspace.folder / "a.txt").unlink()
    (workspace.folder / "inside.txt").write_text("one")
    (workspace.folder / "a.txt").symlink_to(workspace.folder / "inside.txt")
    assert workspace.path("a.txt").read_text() == "one"


def test_nothing_is_written_through_a_link_that_leads_out(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (workspace.folder / "out").symlink_to(tmp_path / "elsewhere")
    before = snapshot(workspace.folder)
    with pytest.raises(ArtifactError, match="outside of the folder"):
        write(workspace, "lower", out__a_txt="one")
    assert not list((tmp_path / "elsewhere").iterdir()) and snapshot(workspace.folder) == before


def test_how_to_make_it_again_is_what_it_was_made_with(tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    recipe = Recipe.load("bert", overrides={"folder": folder, "backend": "openvino"})
    made = Workspace(folder)
    with made.staging("lower/onnxruntime", {}, {"recipe": recipe.recorded()}) as area:
        (area / "a.txt").write_text("one")
    with made.staging("quantize", {}, {}) as area:
        (area / "b.txt").write_text("two")
    usual = ["--backend", "openvino", "--output", str(folder)]
    of = ["--backend", "onnxruntime", "--output", str(folder)]
    assert printed(made.again()) == printed(made.again(file="b.txt")) == [["engine", "bert", *usual]]
    assert printed(made.again(file="z.txt")) == [["engine", "bert", *usual]]
    assert printed(made.again(file="a.txt")) == [["engine", "bert", *of]], "with the backend that made the file"
    assert printed(made.again("--force", verb="check")) == [["check", "bert", *usual, "--force"]]
    other = Recipe.load("segformer", overrides={"folder": folder})
    assert printed(Workspace(folder, other).again()) == [["engine", "bert", *usual]], "the folder knows best"
    empty = Workspace(tmp_path / "none", other.model_copy(update={"folder": tmp_path / "none"})).again()
    assert printed(empty) == [["engine", "segformer", "--output", str(tmp_path / "none")]]


def test_a_family_that_is_no_more_has_no_command(tmp_path: Path) -> None:
    with Workspace(tmp_path).staging("export", {}, {"recipe": {"family": "lstm"}}) as area:
        (area / "a.txt").write_text("one")
    assert Workspace(tmp_path).again() == "run again the command that made the folder"


def test_seconds_are_those_since_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 12.34567, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    made = Workspace(tmp_path)
    assert (made.seconds(), made.seconds()) == (2.346, 5.0) and made.ran == set()


def test_a_full_disk_says_what_is_left(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * 2**20 + 2**19 + 1))
    full = pytest.raises(InputError, match=r"stage 'export' could not write to .*bert \(4 MiB free\)")
    with full, workspace.staging("export", {}, {}):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_stage_may_make_folders_within_folders(workspace: Workspace) -> None:
    with workspace.staging("lower", {}, {}) as area:
        (area / "x" / "y").mkdir(parents=True)
        (area / "x" / "y" / "a.txt").write_text("one")
    assert workspace.path("x/y/a.txt").read_text() == "one"


def test_every_file_is_on_the_disk_before_the_manifest_says_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr("pipeline.artifacts.flush", lambda path: flushed.append(path.name))
    write(workspace, "lower", x_txt="one", y_txt="two")
    assert flushed == ["x.txt", "y.txt", MANIFEST]


def test_what_went_wrong_is_told_though_the_staging_folder_is_gone(workspace: Workspace) -> None:
    def fail() -> None:
        with workspace.staging("lower", {}, {}) as area:
            area.rmdir()
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        fail()


def test_a_staging_folder_is_named_after_stage_and_process(workspace: Workspace) -> None:
    with workspace.staging("lower/openvino", {}, {}) as area:
        assert area == workspace.folder / f".lower-openvino.{os.getpid()}.partial"


@pytest.mark.parametrize("fault", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_where_there_are_no_hard_links_files_are_copied(
    fault: int, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Any) -> None:
        raise OSError(fault, "no links here")

    before, replace, faults = snapshot(workspace.folder), Path.replace, iter([OSError(errno.EIO, "broken")])

    def fail_once(path: Path, target: Path) -> Path:
        for error in faults:
            raise error
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", link)
        patch.setattr(Path, "replace", fail_once)
        with pytest.raises(OSError, match="broken"):
            write(workspace, "export", a_txt="new")
    assert snapshot(workspace.folder) == before
    monkeypatch.setattr(os, "link", link)
    write(workspace, "export", a_txt="new")
    assert workspace.path("a.txt").read_text() == "new"


def test_a_manifest_is_parsed_again_only_where_its_bytes_are_others(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    parse = Manifest.parse
    monkeypatch.setattr(Manifest, "parse", lambda content, path: (parsed.append(content), parse(content, path))[1])
    reader = Workspace(workspace.folder)
    for name in ("a.txt", "b.txt", "config.json"):
        reader.path(name)
    assert len(parsed) == 1
    write(workspace, "lower", e_txt="five")
    assert reader.intact("e.txt") and len(set(parsed)) == 2, "one of each writing"
    path = workspace.folder / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"bytes": 4', b'"bytes": 5'))
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        reader.path("a.txt")
    path.unlink()
    assert reader.manifest.files == {}


def test_what_a_failed_commit_planned_is_in_no_manifest(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = workspace.manifest
    monkeypatch.setattr(Workspace, "_swap", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        write(workspace, "lower", e_txt="five")
    assert workspace.manifest == before and "e.txt" not in workspace.manifest.files


# --- up to date? ---


@pytest.fixture
def why(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Returns a function: why(inputs, outputs) -> the reasons why the stage `export` would run again."""

    def reasons(inputs: dict[str, Any], outputs: list[str], name: str = "export") -> list[str]:
        stage = SimpleNamespace(NAME=name, inputs=lambda *_: inputs, outputs=lambda _: outputs)
        monkeypatch.setattr(stages, "load", lambda _: stage)
        return stages.why_stale(name, Recipe.load("bert", overrides={"folder": workspace.folder}))

    return reasons


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w, i: None, None),
        (lambda w, i: i.update(code="2"), "code changed: 1 -> 2"),
        (lambda w, i: i.update(more=3), "more changed: nothing -> 3"),
        (lambda w, i: i.pop("code"), "code changed: 1 -> nothing"),
        (lambda w, i: (w.folder / "a.txt").write_text("x"), "a.txt is missing or altered"),
        (lambda w, i: (w.folder / "sub" / "c.txt").unlink(), "sub/c.txt is missing or altered"),
    ],
    ids=["same", "changed", "added", "removed", "altered", "deleted"],
)
def test_a_stage_says_why_it_would_run_again(
    change: Any, reason: str | None, workspace: Workspace, why: Callable[..., list[str]]
) -> None:
    inputs = {"code": "1"}
    change(workspace, inputs)
    assert why(inputs, ["a.txt", "b.txt"]) == ([] if reason is None else [reason])


def test_an_output_that_is_new_makes_a_stage_stale(why: Callable[..., list[str]]) -> None:
    assert why({"code": "1"}, ["a.txt", "z.txt"]) == ["z.txt is not among what it made"]


def test_a_file_that_another_stage_made_again_makes_a_stage_stale(
    workspace: Workspace, why: Callable[..., list[str]]
) -> None:
    write(workspace, "lower", a_txt="one")
    assert why({"code": "1"}, ["a.txt"]) == ["a.txt was made again by lower"]


def test_reasons_are_in_order_of_name(workspace: Workspace, why: Callable[..., list[str]]) -> None:
    names = [f"{letter}.txt" for letter in "fbdace"]
    write(workspace, "export", **{name.replace(".", "_"): "one" for name in names})
    for name in names:
        (workspace.folder / name).unlink()
    assert why({"code": "1"}, []) == [f"{name} is missing or altered" for name in sorted(names)]
    write(workspace, "lower", **{name.replace(".", "_"): "one" for name in names})
    assert why({"code": "1"}, []) == [f"{name} was made again by lower" for name in sorted(names)]
    write(workspace, "export", a_txt="one")
    inputs = {"code": "1", **dict.fromkeys(names, 1)}
    assert why(inputs, []) == [f"{name} changed: nothing -> 1" for name in sorted(names)]


def test_what_is_long_is_cut(workspace: Workspace, why: Callable[..., list[str]]) -> None:
    assert why({"code": "x" * 40}, []) == [f"code changed: 1 -> {'x' * 40}"]
    assert why({"code": "x" * 41}, []) == [f"code changed: 1 -> {'x' * 37}…"]


def test_a_stage_without_a_record_never_ran(why: Callable[..., list[str]]) -> None:
    assert why({}, [], "calibrate") == ["it never ran"]


# --- two runs at once ---


def test_a_second_run_in_the_same_folder_is_refused_at_once(tmp_path: Path) -> None:
    recipe = Recipe.load("bert", overrides={"folder": tmp_path / "bert"})
    other = Recipe.load("bert", overrides={"folder": tmp_path / "other"})
    with locked(recipe):
        with pytest.raises(InputError, match="another run is working in"), locked(recipe):
            pass  # one that waited would wait for ever
        with locked(other):
            pass
    with locked(recipe):
        pass


def test_the_second_run_does_not_remove_the_first_ones_staging(tmp_path: Path) -> None:
    recipe = Recipe.load("bert", overrides={"folder": tmp_path / "bert"})
    with locked(recipe), Workspace(recipe.folder).staging("export", {}, {}) as area:
        (area / "a.txt").write_text("x", encoding="utf-8")
        with pytest.raises(InputError, match="another run is working in"), locked(recipe):
            pass
        assert (area / "a.txt").exists()
    assert Workspace(recipe.folder).intact("a.txt")


# --- digests ---


def test_a_folders_digest_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("1", encoding="utf-8")
    first = digest_path(tmp_path)
    (tmp_path / "x" / "a").write_text("2", encoding="utf-8")
    second = digest_path(tmp_path)
    (tmp_path / "x" / "a").rename(tmp_path / "x" / "b")
    assert len({first, second, digest_path(tmp_path)}) == 3
    assert digest_path(tmp_path / "x" / "b") == sha256(tmp_path / "x" / "b")


def test_write_atomic_replaces_or_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "baseline.json"
    write_atomic(path, b"one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            write_atomic(path, b"two")
    assert path.read_bytes() == b"one" and [p.name for p in tmp_path.iterdir()] == ["baseline.json"]
