"""`python -m pipeline <verb> <model> [options]`: results on stdout, logs and progress on stderr.

Exit codes: 0 pass, 1 budget missed, 2 bad input, 3 backend unavailable.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import InputError, PipelineError
from pipeline.options import (
    Backend,
    Json,
    Model,
    Output,
    RecipeFile,
    Settings,
    option_values,
    recorded_recipe,
    takes_recipe,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A Hugging Face SegFormer or BERT checkpoint goes in, a verified int8 engine comes out.",
)
log = logging.getLogger("pipeline")
INTERRUPTED = 130


@app.command()
@takes_recipe
def engine(
    recipe: Any,
    store_baseline: Annotated[
        bool, typer.Option("--store-baseline", help="keep this report as the baseline of `check`")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="run every stage again")] = False,
    first: Annotated[
        str, typer.Option("--from", help="first stage; 'engine' where only the runtime is installed")
    ] = "quantize",
    as_json: Json = False,
) -> None:
    """Build and verify the int8 engine: quantize, calibrate, export, lower, engine, verify."""
    from pipeline import baseline, show
    from pipeline.build import build

    report = build(recipe, force=force, first=first, announce=announce)
    if store_baseline:
        baseline.store(report, recipe.folder)
        announce(f"baseline: stored in {recipe.folder / baseline.FILE}")
    show.result(report, recipe, as_json=as_json)
    raise typer.Exit(0 if report["verdict"] == "pass" else 1)


@app.command()
def check(
    model: Model,
    backend: Backend = None,
    recipe: RecipeFile = None,
    output: Output = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Verify the engine again and compare with the stored baseline; exit 1 on a regression."""
    from pipeline import baseline, show, stages
    from pipeline.build import locked, read_report

    made = recorded_recipe(model, backend, recipe, output, settings)
    before = baseline.read(made.folder)
    with locked(made):
        stages.run("verify", made, force=True, announce=announce)
        report = read_report(made)
    changes = baseline.compare(report, before)
    show.comparison(report, changes, as_json=as_json)
    regressed = any(change.regression for change in changes)
    raise typer.Exit(0 if report["verdict"] == "pass" and not regressed else 1)


@app.command()
def bench(
    model: Model,
    shape: Annotated[
        str | None, typer.Option(help="bert-base, segformer-b0, segformer-b2: random weights, for speed only")
    ] = None,
    batch: Annotated[int, typer.Option(help="samples a call")] = 1,
    methods: Annotated[str, typer.Option(help="comma-separated; default: all")] = "",
    record: Annotated[Path | None, typer.Option(help="also add the table to this file, for the README")] = None,
    output: Output = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Time every method in one interleaved run on the engines that `engine` built; outputs checked in the same run."""
    from pipeline import bench as benchmark
    from pipeline import show

    if shape is None:
        made = recorded_recipe(model, None, None, output, settings)
    else:
        made = benchmark.shape_recipe(model, shape, output, option_values(settings), announce)
    command = f"make bench MODEL={model}" + (f" ARGS='--shape {shape} --batch {batch}'" if shape else "")
    wanted = [m for m in methods.split(",") if m]
    table = benchmark.run(made, batch=batch, wanted=wanted, record=record, command=command)
    show.bench(table, as_json=as_json)


@app.command()
def tables(
    readme: Annotated[Path, typer.Argument(help="file with <!-- bench FILE --> blocks")] = Path("README.md"),
) -> None:
    """Write the measured tables into the README, from the files that `bench --record` made."""
    from pipeline.tables import refresh

    for file in refresh(readme):
        print(file)


@app.command()
@takes_recipe
def status(
    recipe: Any,
    as_json: Json = False,
) -> None:
    """Say for every stage whether it is up to date, and if not, why it would run again."""
    from pipeline import show, stages

    rows = []
    for name in stages.ORDER:
        reasons = stages.why_stale(name, recipe)
        rows.append({"stage": name, "up_to_date": not reasons, "reasons": reasons})
    show.status(rows, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say which backends work here and, for each that does not, the one thing to install."""
    from pipeline import doctor as facts
    from pipeline import show

    show.doctor(facts.examine(), as_json=as_json)


def _stage_command(name: str, summary: str) -> None:
    @takes_recipe
    def command(recipe: Any) -> None:
        from pipeline.build import run_stage

        run_stage(name, recipe, announce=announce)

    command.__doc__ = summary
    app.command(name, rich_help_panel="One stage")(command)


for _name, _summary in {
    "quantize": "Check the checkpoint, prove the rewrites, list the quantizers.",
    "calibrate": "Collect statistics and compute amax by every method.",
    "export": "Export float and quantized ONNX, and the float reference.",
    "lower": "Write one backend's QDQ graph.",
    "verify": "Judge the engine against the float reference.",
}.items():
    _stage_command(_name, _summary)


def announce(line: str) -> None:
    """Prints one line about a stage to stderr."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Runs the command line; every fault becomes one message and an exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # absl, which comes with pytorch-quantization, formats everything on the root logger
    try:
        app(prog_name="python -m pipeline")
    except PipelineError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what typer makes of Ctrl-C
            print("interrupted; earlier artifacts are unchanged.", file=sys.stderr)
            sys.exit(InputError.exit_code)
        raise
