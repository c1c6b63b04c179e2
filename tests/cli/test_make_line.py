"""The `make …` line of a record: what was given, and a call of make that gives the same again."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest
import typer

from helpers import ROOT
from pipeline.cli import benchmarks, main
from pipeline.cli.make_line import make_line

GROUP = typer.main.get_command(main.app)
CALLS = [
    "bench bert",
    "bench segformer --shape segformer-b0 --batch 4 --methods nncf_openvino,ours_openvino --set verification.runs=12",
    "bound bert --backend openvino --shape bert-base --rounds 9",
    "bench-calibration --rounds 2",
    "bench-build bert --shape bert-base --rounds 1 --output exports/other",
    "bench-parity bert --groups 3 --set 'shapes.batches=[1,2]'",
    "scaling --shape bert-base --axis length --values 32,64",
    'compare bert --checkpoint some/encoder --data "it\'s.tsv" --calibration mse --no-rewrites',
    "sensitivity bert --backend openvino --samples 4",
    "place segformer --backend onnxruntime --shape segformer-b0 --rounds 20 --no-store --project",
]


def context_of(words: list[str]) -> typer.Context:
    verb, *rest = words
    return GROUP.commands[verb].make_context(verb, list(rest))  # type: ignore[attr-defined, no-any-return]


def clean() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CPU")}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("call", CALLS)
def test_make_does_what_was_called(call: str) -> None:
    words = shlex.split(call)
    line = make_line(context_of(words))
    done = subprocess.run(
        f"{line} --dry-run", shell=True, cwd=ROOT, env=clean(), capture_output=True, text=True, timeout=60
    )
    again = shlex.split(done.stdout.rpartition("-m pipeline ")[2])
    assert again[0] == words[0], done
    assert context_of(again).params == context_of(words).params


def test_every_measurement_is_among_the_calls() -> None:
    tried = {call.split()[0] for call in CALLS}
    names = {command.name or command.callback.__name__ for command in benchmarks.app.registered_commands}
    assert names - tried == {"tables"}


def test_what_was_not_given_and_where_it_is_recorded_are_left_out() -> None:
    assert make_line(context_of(["bench", "bert", "--record", "results/x.json", "--json"])) == "make bench MODEL=bert"


def test_of_a_path_from_the_root_only_the_name_is_told() -> None:
    line = make_line(context_of(["compare", "bert", "--checkpoint", "/home/me/my model", "--output", "/data/out"]))
    assert shlex.split(line) == ["make", "compare", "MODEL=bert", "CHECKPOINT=…/my model", "ARGS=--output '…/out'"]


def test_the_processor_that_make_was_told_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPU", "avx2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert make_line(context_of(["bench", "bert"])) == "make bench MODEL=bert CPU=avx2"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert make_line(context_of(["bench", "bert"])) == "make bench MODEL=bert", "another program's variable"
