"""Commands that make and verify an engine: `engine`, `check`, and every stage by itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline import distributed
from pipeline.cli.log import announce
from pipeline.cli.options import Backend, Json, Model, Output, RecipeFile, Settings, recorded_recipe, takes_recipe

app = typer.Typer()


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
    from pipeline.cli import show
    from pipeline.report import baseline
    from pipeline.stages.build import build

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
    from pipeline import stages
    from pipeline.cli import show
    from pipeline.report import baseline
    from pipeline.stages.build import locked, read_report

    made = recorded_recipe(model, backend, recipe, output, settings)
    before = baseline.read(made.folder)
    with locked(made):
        stages.run("verify", made, force=True, announce=announce)
        report = read_report(made)
    changes = baseline.compare(report, before)
    show.comparison(report, changes, as_json=as_json)
    regressed = any(change.regression for change in changes)
    raise typer.Exit(0 if report["verdict"] == "pass" and not regressed else 1)


def _stage_command(name: str, summary: str) -> None:
    @takes_recipe
    def command(recipe: Any) -> None:
        from pipeline.cli import show
        from pipeline.stages.build import read_report, run_stage

        run_stage(name, recipe, announce=announce)
        if name == "verify" and not distributed.world().rank:
            report = read_report(recipe)
            show.result(report, recipe, as_json=False)
            raise typer.Exit(0 if report["verdict"] == "pass" else 1)

    command.__doc__ = summary
    app.command(name, rich_help_panel="One stage")(command)


_SHARED = "In several processes: torchrun --nproc-per-node=N -m pipeline …, with the result of one process."

for _name, _summary in {
    "quantize": "Check the checkpoint, prove the rewrites, list the quantizers.",
    "calibrate": f"Collect statistics and compute amax by every method. {_SHARED}",
    "export": "Export float and quantized ONNX, and the float reference.",
    "select": "Score every calibration method on held-out samples (for CALIBRATION=auto).",
    "lower": "Write one backend's QDQ graph.",
    "verify": f"Judge the engine against the float reference. {_SHARED}",
}.items():
    _stage_command(_name, _summary)
