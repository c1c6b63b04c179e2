"""How figures are written in tables."""

from __future__ import annotations

import pytest

from pipeline.bench.tables import _words as words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3.207, "3.21"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (32.06, "32.1"),
        (99.94, "99.9"),
        (99.96, "100"),
        (3210.4, "3210"),
    ],
)
def test_latencies_are_shown_with_three_digits(value: float, shown: str) -> None:
    assert words.three_digits(value) == shown


def test_versions_are_named_without_openvinos_build() -> None:
    about = {"versions": {"openvino": "2026.4.1-22334-abc", "nvidia-modelopt": "0.47.0"}}
    assert words.versions(about, "openvino", "nvidia-modelopt") == "openvino 2026.4.1, modelopt 0.47.0"
