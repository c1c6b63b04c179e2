"""The one form of a table, on a page and on a terminal: columns and rows of text, what stands above and below.

`pipeline.cli.show` draws it on a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Columns, and rows of as many cells.

    A shorter row is of something without figures: its last cell is the reason, and may be longer than the column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def markdown(self) -> str:
        """Returns the title and the table, without a newline behind it."""
        filled = ([*row, *[""] * (len(self.columns) - len(row))] for row in self.rows)
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, *filled)]
        lines.insert(1, f"|{'---|' * len(self.columns)}")
        return "\n".join([self.title, ""] * bool(self.title) + lines)


@dataclass(frozen=True)
class Section:
    """What one result file says: where and how it was measured, tables, and sentences below them."""

    headline: str
    tables: Sequence[Table]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """Returns a block of a page, an empty line between its parts."""
        parts = [self.headline, *(table.markdown() for table in self.tables), *self.notes]
        return "\n\n".join(filter(None, parts)) + "\n"
