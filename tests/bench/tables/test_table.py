"""The one form of a table, written as Markdown."""

from __future__ import annotations

from pipeline.bench.tables._table import Section, Table


def test_a_section_is_a_headline_tables_with_titles_and_notes() -> None:
    table = Table(["engine", "ms"], [["ours", "1.5"]])
    titled = Table(["engine", "ms"], [["theirs", "2.5"]], title="Others:")
    assert Section("On a machine.", [table, titled], ["One note."]).markdown() == (
        "On a machine.\n\n| engine | ms |\n|---|---|\n| ours | 1.5 |\n\n"
        "Others:\n\n| engine | ms |\n|---|---|\n| theirs | 2.5 |\n\nOne note.\n"
    )


def test_a_row_without_figures_has_as_many_cells_as_the_others() -> None:
    table = Table(["engine", "ms", "speed-up"], [["ours", "1.5", "2.00"], ["theirs", "not run: no package"]])
    assert table.markdown().splitlines()[-1] == "| theirs | not run: no package |  |"


def test_without_a_headline_a_section_begins_with_its_table() -> None:
    assert Section("", [Table(["a"], [["1"]])]).markdown() == "| a |\n|---|\n| 1 |\n"
