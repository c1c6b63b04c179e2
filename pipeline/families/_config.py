"""The settings of config.json a family relies on, checked for type and range before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import InputError

Count = Annotated[int, Field(ge=1, le=2**24)]
Layers = Annotated[int, Field(ge=1, le=1024)]


class Settings(BaseModel):
    """Settings of config.json with transformers' defaults; as there, numbers in quotes are not numbers."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


def completed(settings: type[Settings], config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns config.json with defaults for what it leaves out. Raises InputError naming every fault."""
    try:
        return {**config, **settings.model_validate(config).model_dump()}
    except ValidationError as error:
        lines = [_line(fault["loc"], fault["input"], fault["msg"]) for fault in error.errors()]
        raise InputError(f"{folder / 'config.json'} cannot be used:\n  " + "\n  ".join(lines)) from error


def _line(place: tuple[Any, ...], value: Any, fault: str) -> str:
    fault = fault.removeprefix("Value error, ")
    return f"{'.'.join(map(str, place))} = {value!r}: {fault}." if place else f"{fault}."
