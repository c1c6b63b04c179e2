"""Commands that measure: every method side by side, bounds, scaling, accuracy, placement, and the tables of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.log import announce
from pipeline.cli.make_line import make_line
from pipeline.cli.options import (
    Backend,
    Batch,
    Json,
    Methods,
    Model,
    NeededShape,
    Output,
    Record,
    Settings,
    Shape,
    option_values,
    recorded_recipe,
    takes_recipe,
    whole_numbers,
    words_of,
)

app = typer.Typer()


@app.command()
def bench(
    context: typer.Context,
    model: Model,
    shape: Shape = None,
    batch: Batch = 1,
    methods: Methods = "",
    record: Record = None,
    output: Output = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Time every method in one interleaved run on the engines that `engine` built; outputs checked in the same run."""
    from pipeline.bench import published
    from pipeline.bench import speed as benchmark
    from pipeline.cli import show

    if shape is None:
        made = recorded_recipe(model, None, None, output, settings)
    else:
        made = published.built(published.recipe(shape, output, option_values(settings), model), announce)
    table = benchmark.run(made, batch=batch, wanted=words_of(methods), record=record, command=make_line(context))
    show.recorded("bench", table, as_json=as_json)


@app.command()
def bound(
    context: typer.Context,
    model: Model,
    backend: Backend = None,
    shape: Shape = None,
    batch: Batch = 1,
    rounds: Annotated[int, typer.Option(min=6, help="interleaved rounds")] = 30,
    record: Record = None,
    output: Output = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Say how fast the engine could be at most on this machine, its peak rates measured, and where its time goes."""
    from pipeline.bench import bound as roofline
    from pipeline.bench import published
    from pipeline.cli import show

    if shape is None:
        made = recorded_recipe(model, backend, None, output, settings)
    else:
        asked = {**option_values(settings), "backend": backend or "auto"}
        made = published.built(published.recipe(shape, output, asked, model), announce, [asked["backend"]])
    table = roofline.run(made, batch=batch, rounds=rounds, record=record, command=make_line(context))
    show.recorded("bound", table, as_json=as_json)


@app.command("bench-calibration")
def bench_calibration(
    context: typer.Context,
    record: Record = None,
    output: Annotated[Path, typer.Option(help="folder of the checkpoint")] = Path("exports/bench-bert-base"),
    rounds: Annotated[int, typer.Option(min=1, help="interleaved rounds")] = 3,
    as_json: Json = False,
) -> None:
    """Time and memory of calibration at the shape of BERT-base, ours and others'; amax are checked for equality."""
    from pipeline.bench import calibration_cost as benchmark
    from pipeline.cli import show

    table = benchmark.run(output, rounds=rounds, record=record, command=make_line(context))
    show.recorded("calibration", table, as_json=as_json)


@app.command("bench-build")
def bench_build(
    context: typer.Context,
    model: Model,
    shape: NeededShape,
    rounds: Annotated[int, typer.Option(min=1, help="runs of each, in turns")] = 3,
    record: Record = None,
    output: Output = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Time the whole of `engine` at a published shape, stage by stage, beside NNCF's quantization and compilation."""
    from pipeline.bench import build_time as benchmark
    from pipeline.cli import show

    made = benchmark.recipe_of(model, shape, output, option_values(settings))
    table = benchmark.run(made, rounds=rounds, record=record, command=make_line(context), announce=announce)
    show.recorded("build", table, as_json=as_json)


@app.command("bench-parity")
@takes_recipe
def bench_parity(
    recipe: Any,
    context: typer.Context,
    groups: Annotated[int, typer.Option(min=1, help="groups of held-out samples, a trial each")] = 16,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Count what parity misses and what it refuses for nothing: faults of known size put into real engines."""
    from pipeline.bench import parity as benchmark
    from pipeline.cli import show

    table = benchmark.run(recipe, groups=groups, record=record, command=make_line(context), announce=announce)
    show.recorded("parity", table, as_json=as_json)


@app.command()
def scaling(
    context: typer.Context,
    shape: NeededShape,
    axis: Annotated[str | None, typer.Option(help="batch, length or size; default: all that the shape has")] = None,
    values: Annotated[str, typer.Option(help="comma-separated values of the axis; default: its own")] = "",
    methods: Annotated[
        str, typer.Option(help="comma-separated; float ONNX Runtime is always among them; default: it, NNCF and ours")
    ] = "",
    record: Annotated[
        Path | None,
        typer.Option(help="also write this file, for the README, and the picture beside it, after every point"),
    ] = None,
    output: Output = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Time every method and take its memory against batch, sequence length and image size; outputs are checked."""
    from pipeline.bench import scaling as benchmark
    from pipeline.cli import show

    document = benchmark.run(
        shape,
        axis=axis,
        values=whole_numbers("--values", values),
        wanted=words_of(methods),
        output=output,
        settings=option_values(settings),
        command=make_line(context),
        record=record,
        announce=announce,
    )
    show.recorded("scaling", document, as_json=as_json)


@app.command()
@takes_recipe
def compare(recipe: Any, context: typer.Context, record: Record = None, as_json: Json = False) -> None:
    """Judge every calibration method, without and with outlier migration, and the peers on the same samples."""
    from pipeline.bench import quality as comparison
    from pipeline.cli import show
    from pipeline.stages.build import locked

    with locked(recipe):
        table = comparison.run(recipe, record=record, command=make_line(context), announce=announce)
    show.recorded("quality", table, as_json=as_json)


@app.command()
@takes_recipe
def sensitivity(
    recipe: Any,
    context: typer.Context,
    samples: Annotated[int, typer.Option(min=1, help="samples that every probe is judged on")] = 8,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Say what every quantizer, layer and kind of operator costs in accuracy; a killed run goes on where it was."""
    from pipeline.bench import sensitivity as probing
    from pipeline.cli import show

    table = probing.run(recipe, count=samples, record=record, command=make_line(context), announce=announce)
    show.recorded("sensitivity", table, as_json=as_json)


@app.command()
@takes_recipe
def place(
    recipe: Any,
    context: typer.Context,
    shape: Shape = None,
    rounds: Annotated[int, typer.Option(min=6, help="timed runs of each engine")] = 100,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="make the winner the family's default on this backend")
    ] = True,
    project: Annotated[
        bool, typer.Option("--project", help="store it as the project's own, in a source checkout; default: as yours")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search the groups of quantizers for the fastest placement within the accuracy budgets, by measuring."""
    from pipeline.bench import place as placing
    from pipeline.cli import show
    from pipeline.errors import BudgetMissed

    table = placing.run(recipe, shape=shape, rounds=rounds, command=make_line(context), announce=announce)
    show.recorded("place", table, as_json=as_json)
    if table["missed"]:
        raise BudgetMissed(f"no placement that was tried meets the budgets ({table['missed']}); nothing is stored.")
    if store:
        announce(f"place: stored in {placing.store(table, project=project)}")


@app.command()
def tables(
    pages: Annotated[
        list[Path] | None, typer.Argument(help="Markdown with <!-- KIND FILE --> blocks; default: README and docs/")
    ] = None,
) -> None:
    """Write the measured tables and the list of settings into README and docs/, from what `--record` made."""
    from pipeline.bench.tables import refresh

    for page in pages or [Path("README.md"), *sorted(Path("docs").glob("*.md"))]:
        for file in refresh(page):
            print(f"{page}: {file}")
