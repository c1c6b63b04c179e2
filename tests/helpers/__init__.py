"""What tests of several rooms share: tiny checkpoints and graphs, stand-ins for TensorRT, the command line."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]  # the checkout
DATA = ROOT / "tests" / "data"
