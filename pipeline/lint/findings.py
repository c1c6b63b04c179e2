"""What the linter says, as frozen values: findings, and the facts beside them. Needs no package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pipeline.graph.view import Dim

Target = Literal["8.6", "10", "cpu"]
Severity = Literal["E", "W", "I"]

TENSORRT: dict[Target, str] = {"8.6": "TensorRT 8.6", "10": "TensorRT 10 and 11"}
TARGETS: dict[Target, str] = {**TENSORRT, "cpu": "any CPU"}
SEVERITIES: dict[Severity, str] = {"E": "error", "W": "warning", "I": "info"}  # the worst first


@dataclass(frozen=True)
class Place:
    """Where a finding is: a node of the file, or None for the whole graph."""

    node: str | None
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """Everything that one rule found at one severity, for the same targets."""

    rule: str
    severity: Severity
    targets: tuple[Target, ...]
    problem: str
    fix: str
    places: tuple[Place, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes; one without a name goes by its first output."""
        return tuple(dict.fromkeys(place.node for place in self.places if place.node is not None))


@dataclass(frozen=True)
class Coverage:
    """Multiply-accumulates of Conv, ConvTranspose, Gemm and MatMul in one call."""

    int8_macs: int
    float_macs: int
    float_nodes: tuple[tuple[str, int], ...]  # what stays float, the largest first
    assumed: Mapping[str, int]  # dimension -> the number it was counted with
    uncounted: tuple[str, ...]  # operators whose shapes are unknown

    @property
    def share(self) -> float | None:
        """int8 / all, None where nothing could be counted."""
        total = self.int8_macs + self.float_macs
        return self.int8_macs / total if total else None


@dataclass(frozen=True)
class Unfused:
    """A Q or DQ that probably becomes a kernel of its own."""

    node: str
    operator: str
    reason: str


@dataclass(frozen=True)
class Attention:
    """One softmax between two products of activations."""

    node: str  # the softmax
    head_size: Dim
    queries: Dim  # S_q
    keys: Dim  # S_kv
    quantized: tuple[str, ...]  # of the five places of the pattern
    verdict: Literal["int8 fused", "fp16 fused", "broken"]
    why: str


@dataclass(frozen=True)
class Saturation:
    """Int8 products on processors that add pairs of them in 16 bits."""

    products: int
    may_saturate: tuple[str, ...]  # their nodes, the worst first


@dataclass(frozen=True)
class Report:
    """The result of one run of the linter."""

    file: str
    targets: tuple[Target, ...]
    opset: int
    operators: int
    quantize: int  # QuantizeLinear nodes
    dequantize: int
    findings: tuple[Finding, ...]  # by severity, then by rule
    coverage: Coverage
    unfused: tuple[Unfused, ...]
    attention: tuple[Attention, ...]
    residual: Mapping[str, int]  # residual adds with none, one or both of their inputs quantized
    saturation: Saturation | None  # None for TensorRT alone, which has no such sums

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "E")

    def count(self, target: Target, severity: Severity) -> int:
        """Returns the number of findings of one severity that concern a target."""
        return sum(f.severity == severity and target in f.targets for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Returns the whole report in types that `json` knows."""
        document = asdict(self)
        for entry, finding in zip(document["findings"], self.findings, strict=True):
            entry["nodes"] = list(finding.nodes)
        document["coverage"] = {"int8_share": self.coverage.share, **document["coverage"]}
        document["coverage"]["float_nodes"] = [{"node": n, "macs": macs} for n, macs in self.coverage.float_nodes]
        return document
