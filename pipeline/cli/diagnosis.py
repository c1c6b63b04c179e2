"""Commands that look and change nothing: `status`, `doctor` and `lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import Json, takes_recipe
from pipeline.errors import BackendUnavailable

app = typer.Typer()


@app.command()
@takes_recipe
def status(
    recipe: Any,
    as_json: Json = False,
) -> None:
    """Say for every stage whether it is up to date, and if not, why it would run again."""
    from pipeline import stages
    from pipeline.cli import show
    from pipeline.run import Run

    rows, run = [], Run.of(recipe)
    for name in stages.order(recipe):
        try:
            reasons = stages.why_stale(name, run)
        except BackendUnavailable as error:  # the stages before do not need the backend's runtime
            reasons = [str(error)]
        rows.append({"stage": name, "up_to_date": not reasons, "reasons": reasons})
    show.status(rows, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say which backends work here and, for each that does not, the one thing to install."""
    from pipeline.cli import doctor as facts
    from pipeline.cli import show

    show.doctor(facts.examine(), as_json=as_json)


@app.command()
def lint(
    file: Annotated[Path, typer.Argument(help="any ONNX file with Q/DQ pairs, ours or not")],
    target: Annotated[str, typer.Option(help="8.6, 10 (TensorRT 10 and 11), cpu or all")] = "all",
    as_json: Json = False,
) -> None:
    """Say what TensorRT would refuse, run slowly or run in float, and a CPU compute wrong; exit 1 on an error."""
    from pipeline.cli import show
    from pipeline.lint import lint as examine

    report = examine(file, target)
    show.lint(report, as_json=as_json)
    raise typer.Exit(1 if report.errors else 0)
