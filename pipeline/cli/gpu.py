"""The command for a machine with a GPU: `gpu-test`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts import commands
from pipeline.cli.log import announce
from pipeline.cli.options import Json, Settings, option_values
from pipeline.errors import BackendUnavailable

app = typer.Typer()


@app.command("gpu-test")
def gpu_test(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="artifact folders for TensorRT; default: exports/gpu-*, which are made where torch is"),
    ] = None,
    record: Annotated[Path, typer.Option(help="result file; what it has already is not measured again")] = Path(
        "results/gpu.json"
    ),
    rounds: Annotated[int, typer.Option(min=6, help="timed runs of each engine, in turns")] = 50,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="begin nothing new after so many; the same command goes on from there")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="try again what failed before")] = False,
    layers: Annotated[Path | None, typer.Option(help="folder for what the inspector tells of every engine")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Build, check and time TensorRT engines of artifact folders on this GPU; exit 1 where a target is missed.

    Beside numpy, tensorrt and polygraphy it needs onnx pydantic typer pyyaml pillow, and neither torch nor ONNX
    Runtime; engines with another placement or dialect are added where onnx-ir onnxruntime psutil are too.
    """
    from pipeline.bench.gpu_test import run as benchmark
    from pipeline.bench.gpu_test import subjects
    from pipeline.cli import show

    chosen = folders or subjects.usual(option_values(settings), announce)
    options = benchmark.Options(rounds=rounds, seconds=seconds, retry=retry, layers=layers)
    command = "make gpu-test" if not folders else commands.call("gpu-test", *folders, python="python")
    try:
        document = benchmark.run(chosen, record, options, command=command, announce=announce)
    except BackendUnavailable as error:
        raise subjects.hand_over(chosen, error) from error
    show.recorded("gpu", document, as_json=as_json)
    if not document["finished"]:
        announce(f"gpu-test: not finished, {len(list(benchmark.left(document)))} engines are left")
    raise typer.Exit(0 if document["finished"] and all(t["met"] for t in document["targets"]) else 1)
