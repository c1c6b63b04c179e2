"""Faults put in by hand: (module, source as it stands, source with the fault)."""

from __future__ import annotations

FAULTS: tuple[tuple[str, str, str], ...] = (
    ("pipeline/judge/parity.py", "if not noise <= self.noise:", "if not noise <= 10 * self.noise:"),
    ("pipeline/judge/accuracy.py", '"cosine": min(parity.cosine(', '"cosine": max(parity.cosine('),
    ("pipeline/judge/parity.py", "return float(values.min())", "return float(values.max())"),
    ("pipeline/judge/verdict.py", "(before - after) / abs(before)", "(before - after) / before"),
    ("pipeline/judge/bootstrap.py", "np.abs(first), 1), drops > 0)", "first, 1), drops > 0)"),
    ("pipeline/stages/__init__.py", "for name, maker in makers.items() if maker != key]",
     "for name, maker in makers.items() if False]"),
    ("pipeline/stages/code.py", "            seen |= set(file.parent.glob(DRAWN))\n", "            pass\n"),
    ("pipeline/tasks/question_answering.py",
     "& ~np.triu(np.ones_like(scores, dtype=bool), LONGEST_ANSWER)", ""),
    ("calibration/store.py", "            unsigned=unsigned,\n", ""),
    ("calibration/store.py", "num_bits=num_bits, unsigned=unsigned)\n", "num_bits=num_bits)\n"),
    ("pipeline/graph/walks.py", "    return all(\n", "    return any(\n"),
)  # fmt: skip
