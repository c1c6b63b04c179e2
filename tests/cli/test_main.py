"""The command line: light to start, honest exit codes, results on stdout and everything else on stderr."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import qdq_models
from helpers.command_line import Cli, printed, python
from helpers.runs import options_of, snapshot
from pipeline import backends, stages
from pipeline.recipe import Recipe

HEAVY = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "matplotlib", "sklearn",
         "pytorch_quantization", "scipy")  # fmt: skip
TORCH_SIDE = ("torch", "transformers", "pytorch_quantization", "onnxscript")
EASY = ("--set", "budgets.relative_drop=1", "--set", "budgets.agreement=0", "--set", "budgets.speedup=0")
FAST = ("--set", "verification.runs=5", "--set", "verification.warmup=1", "--set", "shapes.batches=[1,2]")


CALL = """
import sys
from pipeline.cli.main import main
code = 0
try:
    main()
except SystemExit as stop:
    code = stop.code
heavy = sorted({heavy} & {{name.split(".")[0] for name in sys.modules}})
print("HEAVY", heavy, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["engine", "--help"], 0),
        (["engine", "segfrmer"], 2),
        (["engine", "bert", "--set", "calibration.sample=8"], 2),
        (["engine", "bert", "--backend", "openvimo"], 2),
        (["check", "bert", "--output", "/no/such/folder"], 2),
        (["nonsense"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_faults_load_nothing_heavy(arguments: list[str], code: int) -> None:
    done = python(CALL.format(heavy=set(HEAVY)), *arguments)
    assert done.returncode == code, done.stderr
    assert "HEAVY []" in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_package_and_its_lists_loads_nothing_heavy() -> None:
    code = f"""
import sys
import pipeline, pipeline.cli.main, pipeline.recipe, pipeline.stages, pipeline.artifacts, pipeline.lowering.placement
from pipeline import families, tasks, backends, build
assert families.names() and tasks.names() and backends.names()
for name in families.names():
    families.get(name)
for name in pipeline.stages.ORDER:
    pipeline.stages.load(name)
heavy = sorted({set(HEAVY)!r} & {{name.split(".")[0] for name in sys.modules}})
assert not heavy, heavy
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_help_names_every_verb_and_option(cli: Cli) -> None:
    answer = cli("--help")
    assert answer.code == 0
    for verb in ("engine", "check", "status", "doctor", *stages.ORDER):
        assert verb in answer.out
    text = cli("engine", "--help").out
    for option in ("--checkpoint", "--data", "--backend", "--calibration", "--recipe", "--output", "--set"):
        assert option in text


def test_an_unknown_model_offers_the_near_ones(cli: Cli, tmp_path: Path) -> None:
    for verb in ("engine", "status", "quantize", "lower", "check"):
        answer = cli(verb, "segfomer", "--output", tmp_path / "x")
        assert answer.code == 2 and answer.out == ""
        assert "unknown model 'segfomer'. Did you mean segformer? Available: bert, segformer." in answer.err


def test_faults_are_json_where_json_was_asked_for(cli: Cli, tmp_path: Path) -> None:
    answer = cli("engine", "bert", "--json", "--set", "seed=x", "--output", tmp_path / "x")
    document = json.loads(answer.out)
    assert answer.code == 2 and document["error"] == "InputError" and "seed = 'x'" in document["message"]


def test_a_check_without_an_engine_says_what_to_run(cli: Cli, tmp_path: Path) -> None:
    answer = cli("check", "bert", "--output", tmp_path / "bert")
    assert answer.code == 2 and printed(answer.err) == [["engine", "bert", "--output", str(tmp_path / "bert")]]
    assert not (tmp_path / "bert").exists()


def test_doctor_has_a_line_for_every_backend(cli: Cli) -> None:
    answer = cli("doctor")
    assert answer.code == 0
    lines = {line.split()[0]: line for line in answer.out.splitlines() if line.strip()}
    for name in backends.names():
        reason = backends.get(name).unavailable_reason()
        assert ("works" in lines[name]) if reason is None else (reason in lines[name])
    document = json.loads(cli("doctor", "--json").out)
    assert [row["backend"] for row in document["backends"]] == backends.names()


def test_a_backend_that_cannot_run_here_is_exit_code_3(
    cli: Cli, exported: Callable[[str], Recipe], tmp_path: Path
) -> None:
    missing = [n for n in backends.names() if backends.get(n).unavailable_reason() is not None]
    if not missing:
        pytest.skip("every backend can run here")
    folder = tmp_path / "bert"
    shutil.copytree(exported("bert").folder, folder)
    before = snapshot(folder)
    recipe = exported("bert").model_copy(update={"folder": folder})
    answer = cli("verify", "bert", *options_of(recipe), "--backend", missing[0])
    assert answer.code == 3 and answer.err.count("error: ") == 1
    assert missing[0] in answer.err and str(backends.get(missing[0]).unavailable_reason()) in answer.err
    assert snapshot(folder) == before


def test_status_says_what_would_run_and_why(cli: Cli, calibrated: dict[str, Recipe], tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(calibrated["bert"].folder, folder)
    recipe = calibrated["bert"].model_copy(update={"folder": folder})
    before = snapshot(folder)
    rows = {r["stage"]: r for r in json.loads(cli("status", "bert", *options_of(recipe), "--json").out)}
    assert [*rows] == [name for name in stages.ORDER if name != "select"], "no method is to be chosen"
    assert rows["quantize"]["up_to_date"] and rows["calibrate"]["up_to_date"]
    assert rows["export"]["reasons"] == ["it never ran"]
    changed = cli("status", "bert", *options_of(recipe), "--set", "calibration.samples=9").out
    assert "samples changed: 8 -> 9" in changed
    assert snapshot(folder) == before, "asking changes nothing"


def test_a_stage_that_is_up_to_date_does_nothing_and_says_so(
    cli: Cli, calibrated: dict[str, Recipe], tmp_path: Path
) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(calibrated["bert"].folder, folder)
    recipe = calibrated["bert"].model_copy(update={"folder": folder})
    before = snapshot(folder)
    answer = cli("calibrate", "bert", *options_of(recipe))
    assert answer.code == 0 and answer.out == "" and "calibrate: up to date" in answer.err
    assert snapshot(folder) == before


@pytest.mark.parametrize(("name", "backend"), [("bert", "onnxruntime"), ("segformer", "openvino")])
def test_from_export_to_verdict_without_torch(
    name: str, backend: str, exported: Callable[[str], Recipe], cli: Cli, tmp_path: Path
) -> None:
    """Lower, engine and verify run where torch and transformers are not installed; a second run does nothing."""
    if (reason := backends.get(backend).unavailable_reason()) is not None:
        pytest.skip(reason)
    folder = tmp_path / name
    shutil.copytree(exported(name).folder, folder)
    recipe = exported(name).model_copy(update={"folder": folder})
    call = ("engine", name, *options_of(recipe), "--backend", backend, "--from", "lower", *FAST, *EASY)
    done = python("from pipeline.cli.main import main\nmain()", *call, absent=TORCH_SIDE)
    assert done.returncode == 0, done.stderr
    for stage in ("lower", "engine", "verify"):
        assert f"{stage}: running" in done.stderr
    assert "PASS" in done.stdout and backend in done.stdout and "report.html" in done.stdout
    before = snapshot(folder)

    again = cli(*call, "--json")
    assert again.code == 0 and json.loads(again.out)["verdict"] == "pass"
    assert [line for line in again.err.splitlines() if "running" in line] == []
    assert snapshot(folder) == before

    missed = cli(*call, "--set", "budgets.speedup=1000")
    assert missed.code == 1 and "FAIL" in missed.out and "1000" in missed.out
    assert "error: " not in missed.err


def test_a_fault_of_ours_has_a_code_of_its_own_and_one_line(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """An exception that nobody caught must not look like a missed budget, which is 1."""
    from pipeline.cli import doctor

    def broken() -> None:
        raise RuntimeError("the cat sat on it\nand stayed")

    monkeypatch.setattr(doctor, "examine", broken)
    answer = cli("doctor")
    assert answer.code == 70 and answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("error: a fault of this program, RuntimeError: the cat sat on it; the traceback is in ")
    file = Path(line.partition("the traceback is in ")[2].partition(";")[0])
    try:
        assert "in broken" in file.read_text(encoding="utf-8")
    finally:
        file.unlink()


def test_verify_alone_has_the_code_of_its_verdict(cli: Cli, tmp_path: Path) -> None:
    qdq_models.export(tmp_path / "small", "onnxruntime")
    stages.run("engine", qdq_models.recipe(tmp_path / "small", "onnxruntime"))
    common = ("bert", "--backend", "onnxruntime", "--output", tmp_path / "small", "--set", "verification.runs=6")
    passed = cli("verify", *common, "--set", "budgets.speedup=0")
    assert passed.code == 0 and "PASS" in passed.out
    failed = cli("verify", *common, "--set", "budgets.speedup=1000")
    assert failed.code == 1 and "FAIL" in failed.out and "the budget is 1000" in failed.out
