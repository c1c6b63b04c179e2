"""An engine gives wrong outputs, in one of two dozen ways: `verify` gives it a failing report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from unittest import mock

import numpy as np

from campaign.bed import OLD, Bed
from helpers.faulty import Faulty, each
from pipeline import backends, stages
from pipeline.bench.parity import rms
from pipeline.stages.build import read_report

Array = np.ndarray
Fault = Callable[[Array, np.random.Generator], Array]


def _noise(share: float) -> Fault:
    return lambda x, rng: x + np.float32(share * rms(x)) * rng.standard_normal(x.shape, np.float32)


def _part(change: Callable[[Array], None]) -> Fault:
    def faulty(x: Array, rng: np.random.Generator) -> Array:
        made = x.copy()
        change(made)
        return made

    return faulty


def _last(x: Array, value: float) -> Array:
    return np.where(np.arange(x.shape[-1]) == x.shape[-1] - 1, np.float32(value), x)


# every one is larger than what int8 does to these models, and most leave the predictions plausible
FAULTS: dict[str, Fault] = {
    "three times too large": lambda x, rng: 3 * x,
    "5 % too large": lambda x, rng: np.float32(1.05) * x,
    "10 % too small": lambda x, rng: np.float32(0.9) * x,
    "another sign": lambda x, rng: -x,
    "an offset of a fifth": lambda x, rng: x + np.float32(0.2 * rms(x)),
    "noise of 20 %": _noise(0.2),
    "noise of 50 %": _noise(0.5),
    "zeros": lambda x, rng: np.zeros_like(x),
    "a constant": lambda x, rng: np.full_like(x, x.mean()),
    "NaN in one place": _part(lambda x: x.reshape(-1).__setitem__(0, np.nan)),
    "infinite in one place": _part(lambda x: x.reshape(-1).__setitem__(-1, np.inf)),
    "NaN everywhere": lambda x, rng: np.full_like(x, np.nan),
    "clipped at half of the range": lambda x, rng: np.clip(x, -np.abs(x).max() / 2, np.abs(x).max() / 2),
    "clipped at zero": lambda x, rng: np.maximum(x, 0),
    "three bits": lambda x, rng: np.round(x / (s := np.float32(np.abs(x).max() / 3.5))) * s,
    "moved by one place": lambda x, rng: np.roll(x, 1, axis=-1),
    "in reverse": lambda x, rng: x[..., ::-1],
    "the last place dead": lambda x, rng: _last(x, 0.0) if x.shape[-1] > 40 else np.zeros_like(x),
    "the halves exchanged": lambda x, rng: np.roll(x, x.shape[-1] // 2, axis=-1),
    "one place more": lambda x, rng: np.concatenate([x, x[..., -1:]], axis=-1),
    "one axis more": lambda x, rng: x[None],
    "of another sample": lambda x, rng: np.full_like(x, x.flat[0]) if x.size < 2 else rng.permuted(x, axis=-1),
    "a tenth of all values lost": lambda x, rng: np.where(rng.random(x.shape) < 0.1, np.float32(0), x),
    "scaled by a ramp": lambda x, rng: x * np.linspace(0.5, 1.5, x.shape[-1], dtype=np.float32),
}
TRIALS = 2 * len(FAULTS)


def trial(bed: Bed, rng: np.random.Generator) -> str:
    family, name = str(rng.choice(["bert", "segformer"])), str(rng.choice(sorted(FAULTS)))
    folder = bed.copy(family)
    recipe = bed.recipe(family, folder, **OLD)
    load, wrong = backends.load_checked, each(lambda x: FAULTS[name](x, rng))
    with mock.patch.object(backends, "load_checked", lambda *given: Faulty(load(*given), wrong)):
        stages.run("verify", recipe, force=True)
    report = read_report(recipe)
    assert report["verdict"] == "fail" and report["reasons"], f"{family}, {name}: {report['verdict']}"
    json.dumps(report, allow_nan=False)
    shutil.rmtree(folder)
    return "a failing report"
