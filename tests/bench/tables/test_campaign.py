"""The table of a campaign's counts."""

from __future__ import annotations

from pipeline.bench.tables import campaign


def test_faults_are_counted_beside_what_came_of_the_others() -> None:
    part = {"part": "kills", "trials": 3, "faults": ["kills, seed 1, trial 2: …"], "outcomes": {"built": 2, "fault": 1}}
    about = {"date": "2026-11-27T10:00", "cpu": "a processor", "processor": "vnni", "threads": 2}
    found = campaign.section({"command": "make campaign", "environment": about, "parts": [part]}).markdown()
    assert found.startswith("`make campaign`, 2026-11-27, a processor (vnni), 2 threads:\n")
    assert found.splitlines()[-1] == "| kills | 3 | 1 | 2 built; 1 fault |"
