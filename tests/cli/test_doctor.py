"""doctor: every backend with its state, and the processor's caution where it needs one."""

from __future__ import annotations

import json
import platform
import sys

import pytest

from pipeline import backends
from pipeline.cli import doctor
from pipeline.measure import machine


def test_every_backend_has_a_row() -> None:
    found = doctor.examine()
    assert [row["backend"] for row in found["backends"]] == backends.names()
    for row in found["backends"]:
        assert row["available"] == (row["reason"] == "") == (row["version"] != "")
    assert json.loads(json.dumps(found)) == found


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    (row,) = [row for row in doctor.rows() if row["backend"] == "openvino"]
    assert not row["available"]
    assert row["reason"].endswith("pip install openvino")


@pytest.mark.parametrize(
    ("flags", "architecture", "cautious"),
    [
        (["avx2"], "x86_64", True),
        (["avx512f", "avx2"], "x86_64", True),
        (["avx512_vnni", "avx512f", "avx2"], "x86_64", False),
        (["avx_vnni", "avx2"], "x86_64", False),
        (["asimddp"], "aarch64", False),
    ],
)
def test_saturation_caution(
    flags: list[str], architecture: str, cautious: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(machine.CAP, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    assert ("caution" in doctor.processor()) == cautious


def test_cores_are_those_one_may_use() -> None:
    assert 1 <= machine.usable_cores() <= 4096
