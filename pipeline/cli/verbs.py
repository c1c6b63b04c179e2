"""`python -m pipeline <verb> <model> [options]`: results on stdout, logs and progress on stderr.

Exit codes: 0 pass, 1 budget missed, 2 bad input, 3 backend unavailable, 70 a fault of this project's.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import distributed
from pipeline.artifacts import commands
from pipeline.cli.options import (
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
from pipeline.errors import BackendUnavailable, InputError, PipelineError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A Hugging Face SegFormer or BERT checkpoint goes in, a verified int8 engine comes out.",
)
log = logging.getLogger("pipeline")
FAULT = 70  # EX_SOFTWARE of sysexits.h


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


@app.command()
def bench(
    model: Model,
    shape: Annotated[
        str | None, typer.Option(help="bert-base, segformer-b0, segformer-b2: random weights, for speed only")
    ] = None,
    batch: Annotated[int, typer.Option(help="samples a call")] = 1,
    methods: Annotated[
        str, typer.Option(help="comma-separated; default: all. Float ONNX Runtime is always among them")
    ] = "",
    record: Annotated[Path | None, typer.Option(help="also add the table to this file, for the README")] = None,
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
    given = {"shape": shape, "batch": batch if shape or batch != 1 else None, "methods": methods}
    command = commands.by_make("bench", {"MODEL": model}, _arguments(given, settings))
    wanted = _listed(methods)
    table = benchmark.run(made, batch=batch, wanted=wanted, record=record, command=command)
    show.recorded("bench", table, as_json=as_json)


@app.command()
def bound(
    model: Model,
    backend: Backend = None,
    shape: Annotated[
        str | None, typer.Option(help="bert-base, segformer-b0, segformer-b2: random weights, for speed only")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="samples a call")] = 1,
    rounds: Annotated[int, typer.Option(min=6, help="interleaved rounds")] = 30,
    record: Annotated[Path | None, typer.Option(help="also write the tables to this file, for the README")] = None,
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
    given = {"MODEL": model, **({"BACKEND": backend} if backend else {})}
    command = commands.by_make("bound", given, _arguments({"shape": shape, "batch": batch}, settings))
    table = roofline.run(made, batch=batch, rounds=rounds, record=record, command=command)
    show.recorded("bound", table, as_json=as_json)


@app.command("bench-calibration")
def bench_calibration(
    record: Annotated[Path | None, typer.Option(help="also write the tables to this file, for the README")] = None,
    output: Annotated[Path, typer.Option(help="folder of the checkpoint")] = Path("exports/bench-bert-base"),
    rounds: Annotated[int, typer.Option(min=1, help="interleaved rounds")] = 3,
    as_json: Json = False,
) -> None:
    """Time and memory of calibration at the shape of BERT-base, ours and others'; amax are checked for equality."""
    from pipeline.bench import calibration_cost as benchmark
    from pipeline.cli import show

    command = "make bench-calibration" + (f" ARGS='--rounds {rounds}'" if rounds != 3 else "")
    table = benchmark.run(output, rounds=rounds, record=record, command=command)
    show.recorded("calibration", table, as_json=as_json)


@app.command("bench-build")
def bench_build(
    model: Model,
    shape: Annotated[str, typer.Option(help="bert-base, segformer-b0, segformer-b2: random weights, for time only")],
    rounds: Annotated[int, typer.Option(min=1, help="runs of each, in turns")] = 3,
    record: Annotated[Path | None, typer.Option(help="also write the table to this file, for the README")] = None,
    output: Output = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Time the whole of `engine` at a published shape, stage by stage, beside NNCF's quantization and compilation."""
    from pipeline.bench import build_time as benchmark
    from pipeline.cli import show

    made = benchmark.recipe_of(model, shape, output, option_values(settings))
    given = _arguments({"shape": shape, "rounds": rounds}, settings)
    command = commands.by_make("bench-build", {"MODEL": model}, given)
    table = benchmark.run(made, rounds=rounds, record=record, command=command, announce=announce)
    show.recorded("build", table, as_json=as_json)


@app.command("bench-parity")
@takes_recipe
def bench_parity(
    recipe: Any,
    groups: Annotated[int, typer.Option(min=1, help="groups of held-out samples, a trial each")] = 16,
    record: Annotated[Path | None, typer.Option(help="also write the table to this file, for the docs")] = None,
    as_json: Json = False,
) -> None:
    """Count what parity misses and what it refuses for nothing: faults of known size put into real engines."""
    from pipeline.bench import parity as benchmark
    from pipeline.cli import show

    command = f"make bench-parity MODEL={recipe.family}" + (f" ARGS='--groups {groups}'" if groups != 16 else "")
    table = benchmark.run(recipe, groups=groups, record=record, command=command, announce=announce)
    show.recorded("parity", table, as_json=as_json)


@app.command()
def scaling(
    shape: Annotated[str, typer.Option(help="bert-base, segformer-b0, segformer-b2: random weights, for speed only")],
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

    given = {"shape": shape, "axis": axis, "values": values, "methods": methods}
    command = commands.by_make("scaling", {}, _arguments(given, settings))
    document = benchmark.run(
        shape,
        axis=axis,
        values=_whole_numbers("--values", values),
        wanted=_listed(methods),
        output=output,
        settings=option_values(settings),
        command=command,
        record=record,
        announce=announce,
    )
    show.recorded("scaling", document, as_json=as_json)


@app.command()
@takes_recipe
def compare(
    recipe: Any,
    record: Annotated[Path | None, typer.Option(help="also write the table to this file, for the README")] = None,
    as_json: Json = False,
) -> None:
    """Judge every calibration method, without and with outlier migration, and the peers on the same samples."""
    from pipeline.bench import quality as comparison
    from pipeline.cli import show
    from pipeline.stages.build import locked

    given = {"MODEL": recipe.family, **({"CHECKPOINT": recipe.checkpoint_name} if recipe.checkpoint else {})}
    with locked(recipe):
        command = commands.by_make("compare", given, [])
        table = comparison.run(recipe, record=record, command=command, announce=announce)
    show.recorded("quality", table, as_json=as_json)


@app.command()
@takes_recipe
def place(
    recipe: Any,
    shape: Annotated[
        str | None, typer.Option(help="bert-base, segformer-b0, …: measure latency on a random checkpoint of it")
    ] = None,
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

    table = placing.run(
        recipe, shape=shape, rounds=rounds, command=placing.command_of(recipe, shape), announce=announce
    )
    show.recorded("place", table, as_json=as_json)
    if table["missed"]:
        raise BudgetMissed(f"no placement that was tried meets the budgets ({table['missed']}); nothing is stored.")
    if store:
        announce(f"place: stored in {placing.store(table, project=project)}")


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


def _arguments(given: Mapping[str, Any], settings: list[str] | None) -> list[str]:
    """Returns the options that were given, for the command that a table says it came from."""
    options = [[f"--{name}", str(value)] for name, value in given.items() if value]
    return [word for option in (*options, *(["--set", s] for s in settings or ())) for word in option]


def _listed(text: str) -> list[str]:
    """Returns the words of a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(word) for word in _listed(text)]
    except ValueError as error:
        raise InputError(f"{option} {text}: expected whole numbers with commas between them, e.g. 32,64.") from error


def announce(line: str) -> None:
    """Prints one line about a stage to stderr."""
    print(line, file=sys.stderr, flush=True)


class _Lines(logging.Handler):
    """Prints to what stderr is by then: while progress is shown, lines stand above it."""

    def emit(self, record: logging.LogRecord) -> None:
        announce(self.format(record))


def _log_to_stderr() -> None:
    log.addHandler(_Lines())
    log.setLevel(logging.INFO)
    log.propagate = False  # absl, which comes with pytorch-quantization, formats everything on the root logger


def main() -> None:
    """Runs the command line; every fault becomes one message and an exit code."""
    try:
        with distributed.session(next(iter(sys.argv[1:]), "")):
            _log_to_stderr()
            app(prog_name="python -m pipeline")
    except PipelineError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == distributed.INTERRUPTED:  # what typer makes of Ctrl-C
            print("interrupted; earlier artifacts are unchanged.", file=sys.stderr)
            sys.exit(InputError.exit_code)
        raise
    except Exception as error:  # noqa: BLE001 -- the last boundary: a fault of ours must not look like a missed budget
        print(f"error: {_report_fault(error)}", file=sys.stderr)
        sys.exit(FAULT)


def _report_fault(error: Exception) -> str:
    """Returns one line about a fault of this project's; the traceback goes to a file that the line names."""
    said = (str(error).strip().splitlines() or ["no message"])[0]
    trace = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="int8-pipeline-", suffix=".log", delete=False) as file:
            file.write(f"{' '.join(sys.argv)}\n{trace}")
        where = f"the traceback is in {file.name}; please report it"
    except OSError:
        where = f"please report it with this traceback:\n{trace}"
    return f"a fault of this program, {type(error).__name__}: {said}; {where}"
