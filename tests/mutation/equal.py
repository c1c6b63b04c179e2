"""Mutants that are no faults: {module: {(line as it stands, line of the mutant): why nothing can tell them apart}}."""

from __future__ import annotations

MEMORY = "memory alone: the result is the same"
PROMOTED = "the other operand is float64, and so is the difference"
IGNORED = "only a percentile has a percentile"
ALIKE = "all of them are alike in this"
DEFAULT = "numpy's own default"
NUMBERS = "arrays of numbers need no pickles"
TINY = "keeps from dividing by zero; any small number does"
ON_A_GPU = "of a GPU, where test_a_gpu_counts_the_same of tests/calibration judges it"
EXACT = "a power of two: rounded before or after the product, the result is the same"
ONE = "there is one"
UNKNOWN = "numpy takes any negative size for the one to be found"
SEAL = 'document["digest"] == digest_of({key: value for key, value in document.items() if key != "digest"})'

EQUAL: dict[str, dict[tuple[str, str], str]] = {
    "calibration/arithmetic.py": {
        ("return np.multiply(steps, self._along_axis(x), out=steps)",
         "return np.multiply(steps, self._along_axis(x))"): MEMORY,
        ("return self.scale.reshape([-1 if i == self.axis % x.ndim else 1 for i in range(x.ndim)])",
         "return self.scale.reshape([- 2 if i == self.axis % x.ndim else 1 for i in range(x.ndim)])"): UNKNOWN,
    },
    "calibration/binning.py": {
        ("_CHUNK_ON_DEVICE = 1 << 24", "_CHUNK_ON_DEVICE = 1 << 25"): ON_A_GPU,
        ("np.ceil(np.abs(np.multiply(values, scale, out=values), out=values), out=values)",
         "np.ceil(np.abs(np.multiply(values, scale), out=values), out=values)"): MEMORY,
        ("_CHUNK_ON_DEVICE = 1 << 24", "_CHUNK_ON_DEVICE = 2 << 24"): ON_A_GPU,
        ("counts = torch.zeros(length, dtype=torch.int64, device=flat.device)",
         "counts = torch.zeros(length, dtype=torch.int64)"): ON_A_GPU,
        ("scratch = torch.empty(size, dtype=torch.float32, device=flat.device)",
         "scratch = torch.empty(size, dtype=torch.float32)"): ON_A_GPU,
        ("lanes = _LANES if on_cpu else 1", "lanes = _LANES if on_cpu else 0"): ON_A_GPU,
    },
    "calibration/calibrator.py": {
        ("return torch.tensor(amax, dtype=torch.float32)", "return torch.tensor(amax)"): "torch's own default",
    },
    "calibration/channel_binning.py": {
        ("values = index = torch.empty(0)", "values = index = torch.empty( 1)"): "made anew for the first piece",
        ("_CELLS = 1 << 13  # counters at a time: both stay in the cache",
         "_CELLS = 2 << 13  # counters at a time: both stay in the cache"): MEMORY,
        ("offsets = torch.arange(-1, cells * bins - 1, bins, dtype=torch.float32, device=device)[:, None]",
         "offsets = torch.arange(-1, cells * bins - 2, bins, dtype=torch.float32, device=device)[:, None]"):
            "the last offset is a whole row of bins below either end",
        ("torch.mul(piece if piece.dtype is torch.float32 else piece.float(), scales[part], out=values)",
         "torch.mul(piece if piece.dtype is not torch.float32 else piece.float(), scales[part], out=values)"): EXACT,
    },
    "calibration/histograms.py": {
        ('f"{kind}/names": np.array(names, dtype=np.str_),', 'f"{kind}/names": np.array(names),'):
            "names are text in any case, and no names are none",
        ("np.savez_compressed(buffer, allow_pickle=False, **arrays)",
         "np.savez_compressed(buffer, allow_pickle=True, **arrays)"): NUMBERS,
        ("np.savez_compressed(buffer, allow_pickle=False, **arrays)",
         "np.savez_compressed(buffer, **arrays)"): NUMBERS,
        ("archive = np.load(path, allow_pickle=False)", "archive = np.load(path)"): DEFAULT,
    },
    "calibration/methods.py": {
        ('wanted = [("max", 0.0), *(("percentile", p) for p in percentiles), ("mse", 0.0), ("entropy", 0.0)]',
         f"wanted = [{found}]"): IGNORED
        for found in (
            f'("max", {a}), *(("percentile", p) for p in percentiles), ("mse", {b}), ("entropy", {c})'
            for a, b, c in (("1.0", "0.0", "0.0"), ("-1.0", "0.0", "0.0"), ("0.0", "1.0", "0.0"),
                            ("0.0", "-1.0", "0.0"), ("0.0", "0.0", "1.0"), ("0.0", "0.0", "-1.0"))
        )
    },
    "calibration/statistics.py": {
        ("if amax > self.amax:", "if amax >= self.amax:"): "to grow by nothing changes nothing",
        ("self.counts[1:] = coarsen(self.counts[None, 1:], [self._exponent - before])[0]",
         "self.counts[1:] = coarsen(self.counts[None, 1:], [self._exponent - before])[ -1]"): ONE,
    },
    "calibration/store.py": {
        ('kind: str = Field(description="what is quantized: input, weight, matmul, residual, …")',
         "kind: str = Field()"): "a word for readers",
    },
    "calibration/searches.py": {
        ("divergence[(tail > 0) & (last == 0)] = np.inf  # Q is 0 where P holds the tail",
         "divergence[(tail >= 0) & (last == 0)] = np.inf  # Q is 0 where P holds the tail"):
            "where nothing lies beyond an edge, the bin below it is the highest used one",
        ("@lru_cache(maxsize=8)", "@lru_cache(maxsize= 9)"): MEMORY,
        ("@lru_cache(maxsize=8)", "@lru_cache(maxsize= 7)"): MEMORY,
        ("@lru_cache(maxsize=8)", "@lru_cache()"): MEMORY,
        ("return 1 << (n - 1).bit_length()", "return 2 << (n - 1).bit_length()"): MEMORY,
        ("return np.asarray(np.multiply(x, np.log(np.where(np.greater(y, 0.0), y, 1.0))))",
         "return np.asarray(np.multiply(x, np.log(np.where(np.greater(y, 0.0), y, 10.0))))"): "x is 0 there",
        ("return np.asarray(np.multiply(x, np.log(np.where(np.greater(y, 0.0), y, 1.0))))",
         "return np.asarray(np.multiply(x, np.log(np.where(np.greater(y, 0.0), y, 2.0))))"): "x is 0 there",
    },
    "pipeline/lint/rules/compute.py": {
        ('if not view.runs_int8(node) or (number(node, "group") or 1) > 1:',
         'if not view.runs_int8(node) or (number(node, "group") or 0) > 1:'): "neither is above 1",
    },
    "pipeline/lint/rules/layout.py": {
        ('return ", ".join(f"{s[0]:.4g}" if len(s) == 1 else f"{len(s)} scales" for s in sorted(scales))',
         'return ", ".join(f"{s[ -1]:.4g}" if len(s) == 1 else f"{len(s)} scales" for s in sorted(scales))'): ONE,
        ("end = view.back(given(group[0], 0), is_layout).end",
         "end = view.back(given(group[ 1], 0), is_layout).end"): ALIKE,
        ("end = view.back(given(group[0], 0), is_layout).end",
         "end = view.back(given(group[ -1], 0), is_layout).end"): ALIKE,
    },
    "pipeline/lint/rules/operators.py": {
        ('add = _made_by(given(root, 0), "Add")', 'add = _made_by(given(root, -1), "Add")'): ONE,
    },
    "pipeline/lint/rules/pairs.py": {
        ("stack, seen = [node.outputs[0]], {id(node.outputs[0])}",
         "stack, seen = [node.outputs[0]], {id(node.outputs[ -1])}"): ONE,
    },
    "pipeline/lint/rules/residual.py": {
        ("for use in node.outputs[0].uses():", "for use in node.outputs[ -1].uses():"): ONE,
        ("others = [value for value in add.inputs if value is not dequantize.outputs[0]]",
         "others = [value for value in add.inputs if value is not dequantize.outputs[ -1]]"): ONE,
        ("for reader in dict.fromkeys(r.node for r in dequantize.outputs[0].uses()):",
         "for reader in dict.fromkeys(r.node for r in dequantize.outputs[ -1].uses()):"): ONE,
    },
    "pipeline/lint/rules/types.py": {
        ("for use in view.reach(node.outputs[0]).uses:", "for use in view.reach(node.outputs[ -1]).uses:"): ONE,
        ("before = producer(view.back(given(node, 0)).end)", "before = producer(view.back(given(node, -1)).end)"): ONE,
        ('source, target = view.dtype(given(node, 0)), number(node, "to")',
         'source, target = view.dtype(given(node, -1)), number(node, "to")'): ONE,
    },
    "pipeline/graph/unsigned.py": {
        ("shifted = (pair.zero_point.astype(np.int16) + 128).astype(np.uint8)",
         "shifted = (pair.zero_point.astype(np.int16) - 128).astype(np.uint8)"): "the same byte: 256 apart",
        ("pair.quantize.outputs[0].dtype = ir.DataType.UINT8",
         "pair.quantize.outputs[ -1].dtype = ir.DataType.UINT8"): ONE,
    },
    "pipeline/graph/walks.py": {
        ("yield from readers(node.outputs[0])", "yield from readers(node.outputs[ -1])"): ONE,
        ("accepts(n) or (n.op_type in through and only_read_by(n.outputs[0], accepts, through, empty=empty))",
         "accepts(n) or (n.op_type in through and only_read_by(n.outputs[ -1], accepts, through, empty=empty))"): ONE,
    },
    "pipeline/artifacts/manifest.py": {
        (f"return bool({SEAL})", f"return ({SEAL})"): "text equals text or not",
    },
    "pipeline/stages/code.py": {
        ('paths = [_path(".".join(parts[:n])) for n in range(1, len(parts) + 1)]',
         'paths = [_path(".".join(parts[:n])) for n in range(1, len(parts) + 2)]'): "the last one once more",
        ('paths = [_path(".".join(parts[:n])) for n in range(1, len(parts) + 1)]',
         'paths = [_path(".".join(parts[:n])) for n in range( 0, len(parts) + 1)]'): "there is no module at the root",
        ('return sorted(_path(package).glob("*.py"))', 'return (_path(package).glob("*.py"))'): "a set has no order",
    },
    "pipeline/judge/bootstrap.py": {
        ("reach = high - drop if drop < budget else drop - low",
         "reach = high - drop if drop <= budget else drop - low"): "where they are equal the answer is None before",
        ("rng, samples = np.random.default_rng(SEED), len(tallies[0])",
         "rng, samples = np.random.default_rng(SEED), len(tallies[ -1])"): ALIKE,
        ("return max(samples + 1, math.ceil(samples * (reach / abs(budget - drop)) ** 2))",
         "return max(samples + 1, math.ceil(samples * (reach / (budget - drop)) ** 2))"): "a square has no sign",
    },
    "pipeline/judge/evaluation.py": {
        ("return {name: np.concatenate([np.asarray(row[name]) for row in rows]) for name in rows[0]}",
         "return {name: np.concatenate([np.asarray(row[name]) for row in rows]) for name in rows[ -1]}"): ALIKE,
        ("archive = np.load(path, allow_pickle=False)", "archive = np.load(path)"): DEFAULT,
    },
    "pipeline/judge/soundness.py": {
        ("np.savez(path, allow_pickle=False, **arrays)", "np.savez(path, allow_pickle=True, **arrays)"): NUMBERS,
        ("np.savez(path, allow_pickle=False, **arrays)", "np.savez(path, **arrays)"): NUMBERS,
        ("return np.asarray(np.nan_to_num(output, nan=0.0, posinf=0.0, neginf=0.0))",
         "return np.asarray(np.nan_to_num(output, posinf=0.0, neginf=0.0))"): DEFAULT,
    },
    "pipeline/judge/verdict.py": {
        ('skill = (float_ - chance["score"]) / max(1 - chance["score"], 1e-12)',
         'skill = (float_ - chance["score"]) / max(1 - chance["score"], 1e-11)'): TINY,
    },
    "pipeline/judge/parity.py": {
        ("return np.asarray(x, dtype=np.float64).reshape(len(x), -1)  # [N, everything else]",
         "return np.asarray(x, dtype=np.float64).reshape(len(x), - 2)  # [N, everything else]"): UNKNOWN,
        ("if not math.isfinite(signal + noise):",
         "if not math.isfinite(signal - noise):"): "both are at least 0: sum and difference are finite where both are",
        ("r, v = np.asarray(row, dtype=np.float64), np.asarray(other, dtype=np.float64)",
         "r, v = np.asarray(row, dtype=np.float64), np.asarray(other)"): PROMOTED,
    },
}  # fmt: skip
