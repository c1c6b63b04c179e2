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

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A Hugging Face SegFormer or BERT checkpoint goes in, a verified int8 engine comes out.",
)
log = logging.getLogger("pipeline")
INTERRUPTED = 130

Model = Annotated[str, typer.Argument(help="the model family: segformer, bert")]
Checkpoint = Annotated[str | None, typer.Option(help="folder or hub id; default: the embedded checkpoint")]
Data = Annotated[str | None, typer.Option(help="folder of images/ and masks/, SQuAD JSON, TSV or JSONL")]
Backend = Annotated[str | None, typer.Option(help="auto, tensorrt, openvino or onnxruntime")]
Calibration = Annotated[str | None, typer.Option(help="max, percentile, mse, entropy or auto")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="TOML or YAML file with settings")]
Output = Annotated[Path | None, typer.Option(help="artifact folder; default: exports/<model>")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="one setting, e.g. calibration.samples=32")]
NoRewrites = Annotated[bool, typer.Option("--no-rewrites", help="keep the float graph as the checkpoint has it")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def make_recipe(
    model: str,
    checkpoint: str | None,
    data: str | None,
    backend: str | None,
    calibration: str | None,
    recipe: Path | None,
    output: Path | None,
    settings: list[str] | None,
    no_rewrites: bool,
) -> Any:
    """Returns the validated recipe: the family's defaults, the file, then the options."""
    from pipeline.recipe import Recipe

    options: dict[str, Any] = {
        "checkpoint": checkpoint,
        "data": data,
        "backend": backend,
        "calibration.method": calibration,
        "folder": output,
        "rewrites": False if no_rewrites else None,
    }
    return Recipe.load(model, recipe, {**options, **option_values(settings)})


def option_values(settings: list[str] | None) -> dict[str, Any]:
    """Returns {name: value} of the --set options."""
    options = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: expected name=value, e.g. --set calibration.samples=32.")
        options[name.strip()] = parse_value(value.strip())
    return options


def parse_value(text: str) -> Any:
    """Returns a YAML value: numbers, booleans and lists as such, everything else as text."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


@app.command()
def engine(
    model: Model,
    checkpoint: Checkpoint = None,
    data: Data = None,
    backend: Backend = None,
    calibration: Calibration = None,
    recipe: RecipeFile = None,
    output: Output = None,
    settings: Settings = None,
    no_rewrites: NoRewrites = False,
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

    made = make_recipe(model, checkpoint, data, backend, calibration, recipe, output, settings, no_rewrites)
    report = build(made, force=force, first=first, announce=announce)
    if store_baseline:
        baseline.store(report, made.folder)
        announce(f"baseline: stored in {made.folder / baseline.FILE}")
    show.result(report, made, as_json=as_json)
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


def recorded_recipe(
    model: str, backend: str | None, recipe: Path | None, output: Path | None, settings: list[str] | None
) -> Any:
    """Returns the recipe that the artifacts in the folder were made with, with the options on top."""
    from pipeline.artifacts import Workspace
    from pipeline.recipe import Recipe

    plain = make_recipe(model, None, None, backend, None, recipe, output, settings, False)
    recorded = Workspace(plain.folder).manifest.recipe
    if not recorded:
        raise InputError(f"{plain.folder} has no engine yet; run `make engine MODEL={model}` first.")
    options = {"backend": backend, "folder": output, **option_values(settings)}
    return Recipe.load(model, recipe, options, defaults=recorded)


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
def status(
    model: Model,
    checkpoint: Checkpoint = None,
    data: Data = None,
    backend: Backend = None,
    calibration: Calibration = None,
    recipe: RecipeFile = None,
    output: Output = None,
    settings: Settings = None,
    no_rewrites: NoRewrites = False,
    as_json: Json = False,
) -> None:
    """Say for every stage whether it is up to date, and if not, why it would run again."""
    from pipeline import show, stages

    made = make_recipe(model, checkpoint, data, backend, calibration, recipe, output, settings, no_rewrites)
    rows = []
    for name in stages.ORDER:
        reasons = stages.why_stale(name, made)
        rows.append({"stage": name, "up_to_date": not reasons, "reasons": reasons})
    show.status(rows, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say which backends work here and, for each that does not, the one thing to install."""
    from pipeline import doctor as facts
    from pipeline import show

    show.doctor(facts.examine(), as_json=as_json)


def _stage_command(name: str, summary: str) -> None:
    def command(
        model: Model,
        checkpoint: Checkpoint = None,
        data: Data = None,
        backend: Backend = None,
        calibration: Calibration = None,
        recipe: RecipeFile = None,
        output: Output = None,
        settings: Settings = None,
        no_rewrites: NoRewrites = False,
    ) -> None:
        from pipeline.build import run_stage

        made = make_recipe(model, checkpoint, data, backend, calibration, recipe, output, settings, no_rewrites)
        run_stage(name, made, announce=announce)

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
