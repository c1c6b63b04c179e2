"""The options that commands share, and the recipe they make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import InputError

SHAPES = "bert-base, segformer-b0, segformer-b2: random weights, for speed only"
Model = Annotated[str, typer.Argument(help="the model family: segformer, bert")]
Checkpoint = Annotated[str | None, typer.Option(help="folder or hub id; default: the embedded checkpoint")]
Data = Annotated[
    str | None,
    typer.Option(help="folder of images/ and masks/ or of a folder per class, SQuAD JSON, TSV, CSV or JSONL"),
]
Backend = Annotated[str | None, typer.Option(help="auto, tensorrt, openvino or onnxruntime")]
Calibration = Annotated[str | None, typer.Option(help="max, percentile, mse, entropy, or auto: the best by score")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="TOML or YAML file with settings")]
Output = Annotated[Path | None, typer.Option(help="artifact folder; default: exports/<model>")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="one setting, e.g. calibration.samples=32")]
NoRewrites = Annotated[bool, typer.Option("--no-rewrites", help="keep the float graph as the checkpoint has it")]
Shape = Annotated[str | None, typer.Option(help=SHAPES)]
NeededShape = Annotated[str, typer.Option("--shape", help=SHAPES)]
Batch = Annotated[int, typer.Option(min=1, help="samples a call")]
Methods = Annotated[str, typer.Option(help="comma-separated; default: all. Float ONNX Runtime is always among them")]
Record = Annotated[Path | None, typer.Option(help="also write the result to this file, for README and docs")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def make_recipe(
    model: Model,
    checkpoint: Checkpoint = None,
    data: Data = None,
    backend: Backend = None,
    calibration: Calibration = None,
    recipe: RecipeFile = None,
    output: Output = None,
    settings: Settings = None,
    no_rewrites: NoRewrites = False,
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


def words_of(text: str) -> list[str]:
    """Returns the words of a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]


def whole_numbers(option: str, text: str) -> list[int]:
    """Returns the numbers of a comma-separated option. Raises InputError."""
    try:
        return [int(word) for word in words_of(text)]
    except ValueError as error:
        raise InputError(f"{option} {text}: expected whole numbers with commas between them, e.g. 32,64.") from error


def parse_value(text: str) -> Any:
    """Returns a YAML value: numbers, booleans and lists as such, everything else as text."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def takes_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `make_recipe`, and hands it the recipe that they make as its first argument."""
    # annotations are resolved here: typer would look the names up in the command's module alone. Not by
    # typing.get_type_hints, which before Python 3.11 hides the options of a parameter whose default is None.
    shared = inspect.signature(make_recipe, eval_str=True).parameters
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        command(make_recipe(**{name: given.pop(name) for name in shared}), **given)

    # a signature has what has no default in front, such as typer's context
    parameters = sorted([*shared.values(), *own], key=lambda parameter: parameter.default is not parameter.empty)
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def recorded_recipe(
    model: str, backend: str | None, recipe: Path | None, output: Path | None, settings: list[str] | None
) -> Any:
    """Returns the recipe that the artifacts in the folder were made with, with the options on top."""
    from pipeline.artifacts import Workspace
    from pipeline.recipe import Recipe

    plain = make_recipe(model, backend=backend, recipe=recipe, output=output, settings=settings)
    workspace = Workspace(plain.folder, plain)
    recorded = workspace.manifest.recipe
    if not recorded:
        raise InputError(f"{plain.folder} has no engine yet; {workspace.again()} first.")
    if recorded["family"] != plain.family:
        raise InputError(f"{plain.folder} was made from a {recorded['family']} checkpoint, not {model}.")
    options = {"backend": backend, "folder": output, **option_values(settings)}
    return Recipe.load(model, recipe, options, defaults=recorded)
