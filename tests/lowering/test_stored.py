"""The stored placements: the user's before the project's, what a file must hold, and where it may be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.messages import all_of
from helpers.usable import USABLE
from pipeline import backends, families
from pipeline.backends._policy import KINDS, Policy
from pipeline.errors import InputError
from pipeline.lowering import placement, stored
from pipeline.lowering.placement import Default
from pipeline.measure import processor

LINEAR, CONV = Policy(frozenset({"linear"})), Policy(frozenset({"conv"}))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the user's file of OpenVINO's placements, which is not there yet; the project has none."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(stored, "PROJECT", tmp_path / "project")
    return tmp_path / "int8-pipeline" / "placements" / "openvino.json"


def keep(family: str, processor_class: str, policy: Policy, **measured: str) -> Path:
    """Stores a placement of OpenVINO as the user's."""
    return stored.store(stored.user_folder(), "openvino", family, processor_class, policy, measured)


def entry(*kinds: Any, **more: Any) -> dict[str, Any]:
    return {"kinds": list(kinds), "measured": {}, **more}


@pytest.mark.parametrize("family", families.names())
@pytest.mark.parametrize("backend", USABLE)
def test_what_the_package_stores_can_be_used(backend: str, family: str) -> None:
    found = stored.read(stored.PROJECT, backend).get(family, {})
    for name in processor.CLASSES:
        kinds = placement.default(backend, family, name).policy.kinds
        assert kinds and kinds <= set(KINDS)
        entries = [found[other]["kinds"] for other in processor.stand_ins(name) if other in found]
        assert kinds == (frozenset(entries[0]) if entries else backends.get(backend).PLACEMENT.kinds)


def test_every_stored_file_is_a_backends() -> None:
    assert {path.stem for path in stored.PROJECT.glob("*")} <= set(backends.names())


def test_without_an_entry_the_backends_own_placement_holds(shelf: Path) -> None:
    own = Default(backends.get("openvino").PLACEMENT)
    assert placement.default("openvino", "bert") == own
    keep("segformer", "vnni", CONV)
    assert placement.default("openvino", "bert", "vnni") == own
    assert placement.default("openvino", "segformer", "vnni") == Default(Policy(frozenset({"conv"})), "vnni", shelf)
    assert placement.default("onnxruntime", "segformer", "vnni").policy == backends.get("onnxruntime").PLACEMENT


def test_a_class_without_an_entry_takes_the_nearest_below_and_says_so(shelf: Path) -> None:
    own = backends.get("openvino").PLACEMENT
    keep("bert", "vnni", LINEAR)
    keep("bert", "avx2", CONV)
    found = {name: placement.default("openvino", "bert", name) for name in processor.CLASSES}
    assert {name: default.measured_on for name, default in found.items()} == {
        "amx": "vnni", "vnni": "vnni", "avx512": "avx2", "avx2": "avx2", "x86": None, "arm": None, "other": None,
    }  # fmt: skip
    assert found["amx"].policy == Policy(frozenset({"linear"})) and found["avx512"].policy == Policy(
        frozenset({"conv"})
    )
    assert found["amx"].note == "bert on openvino was not measured on amx processors; taken from vnni"
    assert found["vnni"].note is None and found["arm"].policy == own
    assert found["arm"].note == (
        "bert on openvino was measured on avx2, vnni alone, not on arm; the backend's own is taken"
    )


def test_storing_replaces_one_class_of_one_family_and_keeps_the_others(shelf: Path) -> None:
    assert (
        stored.store(
            stored.user_folder(), "openvino", "segformer", "vnni", Policy(frozenset({"conv", "linear"})), {"cpu": "A"}
        )
        == shelf
    )
    keep("bert", "vnni", LINEAR)
    keep("segformer", "avx2", Policy(frozenset({"sum"})))
    stored.store(
        stored.user_folder(), "openvino", "segformer", "vnni", Policy(frozenset({"head", "conv"})), {"cpu": "B"}
    )
    assert json.loads(shelf.read_text()) == {
        "bert": {"vnni": {"kinds": ["linear"], "measured": {}}},
        "segformer": {
            "avx2": {"kinds": ["sum"], "measured": {}},
            "vnni": {"kinds": ["conv", "head"], "measured": {"cpu": "B"}},
        },
    }
    assert [path.name for path in shelf.parent.iterdir()] == ["openvino.json"], "nothing is left beside it"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"brt": {"avx2": entry("linear")}}, "unknown model 'brt'. Did you mean bert? Available: bert, segformer."),
        ({"bert": {"avx3": entry("linear")}}, "bert: unknown processor class 'avx3'. Did you mean avx2"),
        ({"bert": {"avx2": entry("linear", "heads")}}, "bert, avx2: unknown kind 'heads'. Did you mean head"),
        ({"bert": {"avx2": entry("linear", 7)}}, "bert, avx2: unknown kind 7."),
        ({"bert": {"avx2": entry()}}, "bert, avx2: 'kinds' must be a list of at least one of linear, "),
        ({"bert": {"avx2": {"kinds": "linear", "measured": {}}}}, "bert, avx2: 'kinds' must be a list"),
        ({"bert": {"avx2": {"kinds": ["linear"]}}}, "'measured' is expected, found an object with 'kinds'."),
        ({"bert": {"avx2": entry("linear", mesured={})}}, "found an object with 'kinds', 'measured', 'mesured'."),
        ({"bert": {"avx2": ["linear"]}}, "bert, avx2: an object with 'kinds' and 'measured' is expected, found ['li"),
        ({"bert": ["linear"]}, "bert: an object of processor classes is expected, found ['linear']."),
        ({"bert": entry("linear")}, "bert: unknown processor class 'kinds'."),
        (["bert"], "an object of families is expected, found list."),
    ],
)
def test_a_file_that_cannot_be_used_names_what_is_wrong(shelf: Path, content: Any, said: str) -> None:
    shelf.parent.mkdir(parents=True)
    shelf.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=all_of(shelf, said)):
        placement.default("openvino", "segformer")


def test_all_faults_of_a_file_are_in_one_message(shelf: Path) -> None:
    shelf.parent.mkdir(parents=True)
    shelf.write_text(json.dumps({"brt": {}, "bert": {"vnni": entry("lnear", "hed")}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"^([^\n]+\n){3}[^\n]+$"):
        stored.read(stored.user_folder(), "openvino")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""], ids=["half", "no text", "empty"])
def test_a_file_that_is_no_json_is_named(shelf: Path, content: bytes) -> None:
    shelf.parent.mkdir(parents=True)
    shelf.write_bytes(content)
    with pytest.raises(InputError, match=r"openvino\.json cannot be read"):
        placement.default("openvino", "bert")


def test_a_folder_that_cannot_be_written_is_named(shelf: Path) -> None:
    shelf.parents[1].write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(InputError, match=r"openvino\.json cannot be written .*XDG_CONFIG_HOME .*--no-store"):
        keep("bert", "vnni", LINEAR)


# --- whose it is ---


@pytest.fixture
def checkout(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the root of a source checkout without placements."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "pyproject.toml").touch()
    monkeypatch.setattr(stored, "PROJECT", root / "pipeline" / "backends" / "placements")
    return root


def test_the_users_placement_stands_before_the_projects(shelf: Path, checkout: Path) -> None:
    own = stored.store(stored.PROJECT, "openvino", "bert", "vnni", LINEAR, {})
    assert placement.default("openvino", "bert", "vnni") == Default(LINEAR, "vnni", own)
    assert keep("bert", "vnni", CONV) == shelf
    default = placement.default("openvino", "bert", "vnni")
    assert default == Default(CONV, "vnni", shelf) and default.origin == "user"
    assert str(default) == f"yours, measured on vnni, in {shelf}"
    shelf.unlink()
    assert placement.default("openvino", "bert", "vnni").origin == "project"


def test_the_nearest_class_counts_more_than_whose_it_is(shelf: Path, checkout: Path) -> None:
    own = stored.store(stored.PROJECT, "openvino", "bert", "vnni", LINEAR, {})
    keep("bert", "avx2", CONV)
    assert placement.default("openvino", "bert", "vnni").file == own
    assert placement.default("openvino", "bert", "avx512").file == shelf


def test_an_installed_package_is_never_written(shelf: Path, checkout: Path) -> None:
    (checkout / "pyproject.toml").unlink()
    with pytest.raises(InputError, match=r"belongs to an installed package: .* Without --project"):
        stored.store(stored.PROJECT, "openvino", "bert", "vnni", LINEAR, {})
    assert not stored.PROJECT.exists()


@pytest.mark.parametrize("value", [None, "", "relative/folder"])
def test_without_an_absolute_xdg_folder_it_is_below_the_home_folder(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME") if value is None else monkeypatch.setenv("XDG_CONFIG_HOME", value)
    assert stored.user_folder() == tmp_path / ".config" / "int8-pipeline" / "placements"
