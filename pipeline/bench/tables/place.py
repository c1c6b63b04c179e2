"""What a search for the fastest placement tried, from `place`."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import by, interval, machine_of, source

COLUMNS = ("round, toggled", "p50 ms", "speed-up", "95 % interval", "drop", "agreement", "SQNR dB", "taken")


def section(table: dict[str, Any]) -> Section:
    """Returns a row a placement that was tried, and what the winner changes."""
    shapes = ", ".join(f"{name} {by(shape)}" for name, shape in table["inputs"].items())
    headline = (
        f"{source(table)}: {table['model']} on {table['backend']}, accuracy of {table['checkpoint']}, latency of "
        f"{table['shape'] or table['model']} at {shapes}, {machine_of(table['environment'])}, {table['rounds']} rounds."
    )
    notes = [f"default: {', '.join(table['default'])}", f"winner: {winner(table)}"]
    return Section(headline, [Table(COLUMNS, [cells(row) for row in table["rows"]])], notes)


def cells(row: dict[str, Any]) -> list[str]:
    """Returns one placement; one that was refused, or is the same graph as another, has no figures."""
    turned = "off -> on" if row["on"] else "on -> off"
    change = f"{' + '.join(row['toggled'])} {turned}" if row["toggled"] else "default"
    ms, ratio, fit = row["latency"], row["again"] or row["speedup"], row["accuracy"]
    return [
        f"{row['round']}  {change}",
        f"{ms['p50']:.2f}" if ms else "",
        f"{ratio['median']:.3f}" if ratio else "",
        interval(ratio, 3) if ratio else "",
        f"{fit['relative_drop']:+.2%}" if fit else "",
        f"{fit['agreement']:.4f}" if fit else "",
        f"{fit['sqnr_db']:.1f}" if fit else "",
        f"{'yes' if row['taken'] else 'no'}: {row['why']}" if row["round"] else "",
    ]


def winner(table: dict[str, Any]) -> str:
    """Returns what the winner switches on and off against the default, and its speed."""
    before, after = set(table["default"]), set(table["winner"])
    changes = [f"+ {kind}" for kind in table["winner"] if kind not in before]
    changes += [f"- {kind}" for kind in table["default"] if kind not in after]
    if not changes:
        return f"the default{', ' + table['kept'] if table['kept'] else ''}"
    ms, ratio = table["latency"], table["latency"]["speedup"]
    return (
        f"{' '.join(changes)}, {ratio['median']:.3f}x the default's speed ({interval(ratio, 3)}), "
        f"{ms['default']['p50']:.2f} -> {ms['winner']['p50']:.2f} ms"
    )
