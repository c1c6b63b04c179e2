"""What messages take over from other libraries' exceptions."""

from __future__ import annotations

import errno

import pytest

from pipeline.errors import in_short


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("format"), "'format' is missing"),
        (OSError(errno.EACCES, "Permission denied", "/a/b"), "Permission denied"),
        (ValueError("one line.\nanother line"), "one line"),
        (TypeError(), "TypeError"),
        (ValueError("x" * 1000), "x" * 200),
    ],
)
def test_one_line_says_what_is_wrong(error: Exception, expected: str) -> None:
    assert in_short(error) == expected


def test_the_bytes_of_a_file_are_not_repeated() -> None:
    with pytest.raises(UnicodeDecodeError, match="invalid start byte") as info:
        (b"\xff" + bytes(10_000)).decode()
    assert in_short(info.value) == "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
