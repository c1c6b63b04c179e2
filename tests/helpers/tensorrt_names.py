"""Writes tests/data/tensorrt-names-<version>.json: which names TensorRT's Python bindings have, read off the wheels.

    python tests/helpers/tensorrt_names.py --python python3.10

Needs no GPU: the extension module is imported with empty libraries in place of TensorRT's and CUDA's, which it calls
only when something is built or run. Needs gcc, readelf, nm, and a CPython that all the wheels are made for (3.10).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

# the first and a late one of each line; 8.6.0 has its libraries in the same wheel, about a gigabyte
WHEELS = (
    ("tensorrt", "8.6.0"),
    ("tensorrt-cu12-bindings", "10.0.1"),
    ("tensorrt-cu12-bindings", "10.16.1.11"),
    ("tensorrt-cu12-bindings", "11.0.0.114"),
    ("tensorrt-cu12-bindings", "11.4.0.106"),
)
DATA = Path(__file__).parents[1] / "data"
CLASSES = (
    "Builder", "BuilderFlag", "DataType", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
    "IHostMemory", "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProfiler", "ITensor", "ITimingCache",
    "LayerInformationFormat", "MemoryPoolType", "NetworkDefinitionCreationFlag", "OnnxParser", "ParserError",
    "ProfilingVerbosity", "Runtime", "TacticSource", "TensorIOMode",
)  # fmt: skip
SYSTEM = ("libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libstdc++.so", "libgcc_s.so", "ld-linux")
PROBE = """
import importlib.machinery, importlib.util, json, os, sys
sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)
loader = importlib.machinery.ExtensionFileLoader("tensorrt", sys.argv[1])
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("tensorrt", loader))
loader.exec_module(module)
public = lambda thing: sorted(name for name in dir(thing) if not name.startswith("_"))
found = {name: public(getattr(module, name)) for name in sys.argv[2:] if hasattr(module, name)}
print(json.dumps({"tensorrt": public(module), **found}))
"""


def lines(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def download(python: str, name: str, version: str, folder: Path) -> Path:
    """Returns the wheel of a version for that interpreter."""
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    subprocess.run([*command, f"{name}=={version}"], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def extension(wheel: Path, folder: Path) -> Path:
    """Returns the extension module of a wheel, unpacked."""
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [n for n in archive.namelist() if Path(n).name.startswith("tensorrt") and n.endswith(".so")]
        return Path(archive.extract(member, folder))


def write_stubs(module: Path, folder: Path) -> None:
    """Writes empty libraries of the names that `module` needs; the first defines every symbol that it looks up."""
    needed = [line.split("[")[1].rstrip("]") for line in lines("readelf", "-d", str(module)) if "(NEEDED)" in line]
    wanted = [line.split()[-1] for line in lines("nm", "-D", "--undefined-only", str(module))]
    own = [s for s in wanted if "@" not in s and not s.startswith(("Py", "_Py", "__gmon", "_ITM", "__cxa", "_Jv"))]
    missing = [name for name in needed if not name.startswith(SYSTEM)]
    for place, name in enumerate(missing):
        source = "\n".join(f"void {symbol}(void) {{}}" for symbol in own) if place == 0 else ""
        command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", f"-Wl,-soname,{name}", "-o", str(folder / name)]
        subprocess.run(command, input=source + "\nstatic int unused;\n", check=True, text=True)


def names(python: str, module: Path, stubs: Path) -> dict[str, list[str]]:
    """Returns {class: names} of the imported module, "tensorrt" for its own."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(stubs)}
    command = [python, "-c", PROBE, str(module), *CLASSES]
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, list[str]] = json.loads(answer.stdout)
    return found


def text(found: dict[str, Any]) -> str:
    """Returns JSON with a class a line."""
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(members)}" for name, members in found["names"].items())
    head = "".join(f" {json.dumps(key)}: {json.dumps(found[key])},\n" for key in ("version", "wheel"))
    return f'{{\n{head} "names": {{\n{rows}\n }}\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3.10", help="the interpreter that the wheels are for")
    python = parser.parse_args().python
    for name, version in WHEELS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            wheel = download(python, name, version, folder)
            module = extension(wheel, folder)
            write_stubs(module, folder)
            found = {"version": version, "wheel": wheel.name, "names": names(python, module, folder)}
        path = DATA / f"tensorrt-names-{version}.json"
        path.write_text(text(found), encoding="utf-8")
        print(path.name, sum(map(len, found["names"].values())), "names of", len(found["names"]) - 1, "classes")


if __name__ == "__main__":
    main()
