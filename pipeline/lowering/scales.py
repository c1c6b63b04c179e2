"""amax -> scale, the one formula behind every QuantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_scale(amax: Any) -> np.ndarray:
    """Returns amax / 127 as float32, a scalar for one value.

    Signed 8-bit symmetric: zero point 0, x ≈ scale · q, q in [−128, 127] (Wu et al. 2020, arXiv:2004.09602, 3.1).
    A channel of zeros has amax 0; every scale represents it exactly, 1 is taken.
    """
    values = np.asarray(amax, dtype=np.float32)
    scale = values / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1))
    return scale.reshape(()) if scale.size == 1 else scale
