"""The first seed of every split of generated data: a million apart, so that no split sees a sample of another."""

from __future__ import annotations

TRAIN_SEED = 0
CALIBRATION_SEED = 1_000_000
EVALUATION_SEED = 2_000_000
SELECTION_SEED = 3_000_000  # for choosing between calibration methods

BY_SPLIT = {"calibration": CALIBRATION_SEED, "selection": SELECTION_SEED, "evaluation": EVALUATION_SEED}
