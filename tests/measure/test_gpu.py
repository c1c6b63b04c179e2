"""What nvidia-smi tells: of the GPU that engines run on, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.measure import gpu, machine

LINE = "NVIDIA H200, 550.90.07, 1980, 3201, 1980, 3201, 34, 120.50, P0"


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns an nvidia-smi that is found first and answers for the GPU of number 1 alone."""
    path = tmp_path / "nvidia-smi"
    path.write_text(f'#!/bin/sh\ncase "$*" in *--id=1*clocks.sm*) echo "{LINE}";; *) exit 6;; esac\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return path


def test_the_first_line_is_read() -> None:
    found = gpu.parse(f"{LINE}\nNVIDIA H200, 550.90.07, 345, 1593, 1980, 3201, 30, 76.1, P8\n")
    assert (found["name"], found["driver"], found["sm_mhz"], found["watt"]) == ("NVIDIA H200", "550.90.07", 1980, 120.5)
    assert gpu.parse(LINE.replace("120.50", "[N/A]"))["watt"] is None
    assert set(gpu.parse("").values()) == {None} == set(gpu.parse("an error").values())


def test_it_is_asked_about_the_visible_gpu(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.query()["name"] is None, "another GPU than the visible one"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu.query()["name"] == "NVIDIA H200"
    assert machine.environment(1, {})["gpu"] == "NVIDIA H200"


def test_a_machine_without_the_tool_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(gpu.query().values()) == {None} and machine.environment(1, {})["gpu"] is None
