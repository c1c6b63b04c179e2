"""Runs the campaign, prints its counts, and exits with 1 where there was a fault."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import campaign
from campaign.bed import Bed
from pipeline.bench import results
from pipeline.measure import machine


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m campaign", description=campaign.__doc__.splitlines()[0])
    options.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    options.add_argument("--minutes", type=float, default=20.0, help="no trial begins later")
    options.add_argument("--only", action="append", choices=campaign.PARTS, help="a part; may be repeated")
    options.add_argument("--trial", type=int, help="this trial alone")
    options.add_argument("--record", type=Path, help="also write the counts to this file, for the docs")
    asked = options.parse_args()
    print(f"seed {asked.seed}", flush=True)
    parts, counts = asked.only or campaign.PARTS, []
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        bed = Bed(Path(folder))
        say(f"built {', '.join(bed.built)}")
        end = time.perf_counter() + 60 * asked.minutes
        for number, part in enumerate(parts):
            trials = range(campaign.load(part).TRIALS)
            chosen = trials if asked.trial is None else range(asked.trial, asked.trial + 1)
            share = (end - time.perf_counter()) / (len(parts) - number)  # what one part leaves is the others'
            counts.append(campaign.run(part, bed, asked.seed, chosen, seconds=share, say=say))
            say(f"{part}: {counts[-1].trials} of {len(chosen)} trials in {counts[-1].seconds:.0f} s")
            for outcome, count in counts[-1].outcomes.most_common():
                say(f"  {count:5} {outcome}")
    if asked.record:
        command = f"make campaign ARGS='--seed {asked.seed}'"
        found = results.document(command, machine.usable_cores(), seed=asked.seed, parts=[c.to_json() for c in counts])
        results.write(found, asked.record)
    return int(any(each.faults for each in counts))


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
