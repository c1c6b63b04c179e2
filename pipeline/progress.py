"""Progress on stderr: the stage with its number and the time so far, a bar below it for work that can be counted.

Nothing where stderr is not a terminal. Lines that are printed or logged meanwhile stand above it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, Task

T = TypeVar("T")
_shown: list[Progress] = []  # the one that is on the screen: two would draw over each other


@contextmanager
def stage(name: str, number: int = 1, of: int = 1, since: float | None = None) -> Iterator[None]:
    """Shows which stage runs for how long while the block runs. since: when the first began (time.monotonic)."""
    label = f"stage {number} of {of}: {name}" if of > 1 else name
    with _display() as display:
        if display is not None:
            display.add_task(label, total=None, since=since if of > 1 else None)
        yield


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yields `items` behind a bar that shows the label, the count and the time left."""
    with _display() as display:
        if display is None:
            yield from items
            return
        task = display.add_task(label, total=total, since=None)
        try:
            for item in items:
                yield item
                display.advance(task)
        finally:
            display.remove_task(task)


@contextmanager
def _display() -> Iterator[Progress | None]:
    """Gives the display on the screen, a new one where there is none, None where stderr is no terminal."""
    if _shown or not sys.stderr.isatty():
        yield _shown[0] if _shown else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Figures(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_figures(task))

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), Figures())
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as display:
        _shown.append(display)
        try:
            yield display
        finally:
            _shown.remove(display)


def _figures(task: Task) -> str:
    """Returns "12 of 64, 0:21 left" of a count, "0:12, 0:47 in all" of a stage."""
    if task.total is not None:
        left = task.time_remaining
        return f"{task.completed:.0f} of {task.total:.0f}" + ("" if left is None else f", {clock(left)} left")
    whole = task.fields["since"]
    return clock(task.elapsed or 0) + ("" if whole is None else f", {clock(time.monotonic() - whole)} in all")


def clock(seconds: float) -> str:
    """Returns a time in minutes and seconds: 2:05."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
