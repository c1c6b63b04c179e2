"""`place`: a greedy search by measured latency within the accuracy budgets, whose winner becomes the default."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Cli
from helpers.runs import options_of, snapshot
from pipeline import backends, stages, tasks
from pipeline.backends._policy import Policy
from pipeline.bench import place
from pipeline.bench.place import engines as placement_engines
from pipeline.bench.place.search import moves, search, toggled
from pipeline.bench.place.trials import CURRENT, Candidate, Trial, equally_fast, misses
from pipeline.errors import EngineRefused, InputError
from pipeline.lowering import Choice, placement, selection, stored
from pipeline.lowering.stored import in_order
from pipeline.measure import machine, processor
from pipeline.recipe import Budgets, Recipe
from pipeline.run import Run

LIMITS = Budgets(relative_drop=0.01, agreement=0.95)  # type: ignore[call-arg]
MOVES = [("linear",), ("scores",), ("context",), ("head",)]
START = frozenset({"linear", "scores"})
MAX = Choice("max", 100.0, False)
ROUNDS = 40


@dataclass
class Fake:
    """Engines whose seconds and scores are given by kind; noise: factors of the timings, one call of `time` each."""

    seconds: Mapping[str, float] = field(default_factory=dict)  # added to 1.0 by a kind that is on
    drops: Mapping[str, float] = field(default_factory=dict)
    db: Mapping[str, float] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()  # kinds that change no graph
    lies: list[dict[str, float]] = field(default_factory=list)
    asked: list[set[str]] = field(default_factory=list)
    kept: list[frozenset[str]] = field(default_factory=list)

    def make(self, kinds: frozenset[str]) -> Candidate:
        graphs = ("".join(in_order(kinds - self.ignored)),)
        if kinds & self.refused:
            return Candidate(kinds, graphs, None, "cosine 0.1")
        total = {name: sum(table.get(k, 0) for k in kinds) for name, table in (("drop", self.drops), ("db", self.db))}
        scores = {"metric": "f1", "relative_drop": total["drop"], "agreement": 1.0, "sqnr_db": 40 - total["db"]}
        return Candidate(kinds, graphs, scores)

    def time(self, candidates: Mapping[str, Candidate]) -> dict[str, list[float]]:
        lies = self.lies.pop(0) if self.lies else {}
        self.asked.append({name for name in candidates if name != CURRENT})
        return {
            name: [(1 + sum(self.seconds.get(k, 0) for k in c.kinds)) * lies.get(name, 1) * (1 + i % 3 / 1000)
                   for i in range(ROUNDS)]
            for name, c in candidates.items()
        }  # fmt: skip

    def keep(self, candidate: Candidate) -> None:
        self.kept.append(candidate.kinds)


def found(fake: Fake, start: frozenset[str] = START, limits: Budgets = LIMITS) -> tuple[list[str], dict[Any, Trial]]:
    """Returns the winner's kinds and the trials by (round, move)."""
    best, trials = search(start, MOVES, fake, limits)
    return in_order(best.kinds), {(t.round, *t.move): t for t in trials}


def test_each_round_goes_on_from_the_fastest() -> None:
    fake = Fake(seconds={"linear": -0.4, "scores": 0.1, "context": -0.15, "head": -0.05})
    winner, trials = found(fake)
    assert winner == ["linear", "context", "head"]
    taken = [(t.round, t.label) for t in trials.values() if t.taken]
    assert taken == [(1, "context on"), (2, "scores off"), (3, "head on")]
    assert trials[1, "linear"].why == "slower" and trials[1, "head"].why == "faster, another one more so"
    assert fake.kept == [t.candidate.kinds for t in trials.values() if t.taken], "other engines are forgotten"
    assert {t.round for t in trials.values()} == {0, 1, 2, 3, 4}, "the last round takes nothing"


def test_nothing_faster_ends_after_one_round() -> None:
    winner, trials = found(Fake(seconds={"linear": -0.4, "scores": -0.2, "context": 0.1, "head": 0.0}))
    assert winner == in_order(START) and {t.round for t in trials.values()} == {0, 1}
    assert not any(t.taken for t in trials.values())
    assert trials[1, "head"].why == "not faster"


def test_the_budgets_refuse_what_is_faster() -> None:
    winner, trials = found(Fake(seconds={"head": -0.3, "context": -0.1}, drops={"head": 0.02}))
    assert winner == ["linear", "scores", "context"]
    assert trials[1, "head"].why == "f1 drops 2.00%, budget 1.00%"
    assert trials[1, "head"].interval["low"] > 1, "it is timed all the same"


def test_agreement_is_a_budget_too() -> None:
    scores = {"metric": "f1", "relative_drop": -0.5, "agreement": 0.9}
    assert misses(scores, LIMITS) == "agreement 0.9000, budget 0.95"
    assert misses({**scores, "agreement": 0.95}, LIMITS) is None
    assert misses({**scores, "relative_drop": float("nan")}, LIMITS), "no number meets no budget"


def test_a_refused_engine_is_neither_timed_nor_taken() -> None:
    fake = Fake(seconds={"head": -0.5}, refused=frozenset({"head"}))
    winner, trials = found(fake)
    assert "head" not in winner
    assert trials[1, "head"].why == "refused: cosine 0.1" and trials[1, "head"].speedup is None
    assert all("head on" not in names for names in fake.asked)


def test_a_refused_start_is_an_error() -> None:
    with pytest.raises(EngineRefused, match=r"default placement \(linear, scores\): cosine 0\.1"):
        found(Fake(refused=frozenset({"scores"})))


def test_one_lucky_measurement_is_not_taken() -> None:
    fake = Fake(lies=[{"head on": 0.9}])  # the first time only
    winner, trials = found(fake)
    assert winner == in_order(START) and trials[1, "head"].why == "faster, but not when timed again"
    assert trials[1, "head"].again is not None and fake.asked[1:] == [{"head on"}]


def test_a_little_speed_is_no_reason_for_more_int8_but_one_for_less() -> None:
    winner, trials = found(Fake(seconds={"head": -0.01, "linear": 0.01}))
    assert winner == ["scores"] and trials[1, "linear"].taken
    assert trials[1, "head"].why == "faster, another one more so" or trials[1, "head"].why.startswith("faster by less")
    assert trials[2, "head"].why == "faster by less than 2% when timed again"


def test_the_next_fastest_is_taken_where_the_fastest_was_luck() -> None:
    winner, trials = found(Fake(seconds={"context": -0.05}, lies=[{"head on": 0.5}]))
    assert winner == ["linear", "scores", "context"] and trials[1, "context"].taken
    assert trials[1, "head"].why == "faster, but not when timed again"


def test_what_costs_no_time_is_switched_off_for_accuracy() -> None:
    winner, trials = found(Fake(seconds={"linear": -0.4}, db={"scores": 6, "linear": 8}))
    assert winner == ["linear"] and trials[1, "scores"].why == "as fast, SQNR +6.0 dB"


def test_a_little_accuracy_is_no_reason() -> None:
    winner, _ = found(Fake(seconds={"linear": -0.4}, db={"scores": 0.9}))
    assert winner == in_order(START)


@pytest.mark.parametrize(
    ("low", "high", "equal"), [(0.99, 1.01, True), (0.9, 1.2, False), (0.985, 0.999, False), (1.0, 1.01, True)]
)
def test_equally_fast_is_what_was_measured_well_enough(low: float, high: float, equal: bool) -> None:
    assert equally_fast({"median": (low + high) / 2, "low": low, "high": high}) is equal


def test_equal_graphs_are_timed_once() -> None:
    fake = Fake(ignored=frozenset({"context", "head"}))
    _, trials = found(fake, start=frozenset({"linear"}))
    assert trials[1, "context"].why == "the same graph as the current placement"
    assert fake.asked[0] == {"scores on"}
    fake.ignored = frozenset()
    fake.make = lambda kinds: Candidate(  # type: ignore[method-assign]
        kinds, (str(len(kinds)),), {"metric": "f1", "relative_drop": 0, "agreement": 1, "sqnr_db": 1}
    )
    _, trials = found(fake, start=frozenset({"linear"}))
    assert trials[1, "context"].why == "the same graph as scores on"


def test_a_start_over_budget_goes_for_accuracy_first() -> None:
    drops = {"linear": 0.03, "scores": 0.03}
    winner, trials = found(Fake(seconds={"linear": -0.4, "scores": -0.1}, drops=drops), START | {"head"})
    assert winner == ["head"], "both groups had to go"
    assert [t.why for t in trials.values() if t.taken] == [
        "closest to the budgets",
        "meets the budgets, the fastest that does",
    ]
    one = Fake(seconds={"linear": -0.4, "scores": -0.1}, drops={"scores": 0.03})
    winner, trials = found(one)
    assert winner == ["linear"] and trials[1, "scores"].why == "meets the budgets, the fastest that does"


def test_budgets_that_nothing_meets_end_the_search() -> None:
    best, trials = search(START, MOVES, Fake(drops={k: 0.02 for (k,) in MOVES}), LIMITS)
    assert misses(best.judged, LIMITS) and len(best.kinds) == 1 and trials[-1].round < 5


def test_noise_cannot_turn_in_circles() -> None:
    class Capricious(Fake):
        def time(self, candidates: Mapping[str, Candidate]) -> dict[str, list[float]]:
            return {name: [2.0 if name == CURRENT else 1.0] * ROUNDS for name in candidates}

    best, trials = search(START, MOVES, Capricious(), LIMITS)
    taken = [t.candidate.kinds for t in trials if t.taken]
    assert len(taken) == len(set(taken)) and START not in taken and best.kinds == taken[-1]


def test_nothing_at_all_is_no_candidate() -> None:
    assert toggled(frozenset({"linear"}), ("linear",), MOVES) is None
    assert toggled(frozenset({"linear", "conv"}), ("linear",), MOVES) is None, "this model has no convolution"
    assert toggled(frozenset({"linear", "head"}), ("linear",), MOVES) == {"head"}


def test_the_inputs_of_one_operator_are_toggled_together_too() -> None:
    kinds = [("a", "linear"), ("b.add", "residual"), ("b.add", "local"), ("e", "embedding"), ("h", "head")]
    found = moves([{"site": site, "kind": kind} for site, kind in kinds])
    assert found == [("linear",), ("local",), ("residual",), ("head",), ("local", "residual")]
    assert toggled(frozenset({"linear", "local"}), found[-1], found) is None, "they are in different states"
    assert toggled(frozenset({"linear"}), found[-1], found) == {"linear", "local", "residual"}


# --- the engines ---


DEFAULT = frozenset({"linear", "scores", "context", "embedding"})


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the user's file of ONNX Runtime's placements; it holds DEFAULT for BERT, and the project has none."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(stored, "PROJECT", tmp_path / "project")
    return stored.store(stored.user_folder(), "onnxruntime", "bert", machine.processor_class(), Policy(DEFAULT), {})


@pytest.fixture
def recipe(exported: Callable[[str], Recipe], tmp_path: Path, shelf: Path) -> Recipe:
    """Returns the recipe of a tiny BERT in a folder of its own, with budgets that a random model can meet."""
    source = exported("bert")
    return source.model_copy(
        update={
            "folder": Path(shutil.copytree(source.folder, tmp_path / "bert")),
            "backend": "onnxruntime",
            "calibration": source.calibration.model_copy(update={"selection_samples": 6}),
            "budgets": Budgets(relative_drop=1.0, agreement=0.0),  # type: ignore[call-arg]
        }
    )


def test_a_search_measures_prints_its_table_and_stores_the_winner(cli: Cli, recipe: Recipe, shelf: Path) -> None:
    before = snapshot(recipe.folder)
    answer = cli("place", "bert", *options(recipe))
    assert answer.code == 0, answer.err
    written = recipe.folder / "onnxruntime" / "place.json"
    assert set(snapshot(recipe.folder)) - set(before) == {"onnxruntime/place.json"}, "no engine is left behind"
    table = json.loads(written.read_text())
    assert frozenset(table["default"]) == DEFAULT
    assert placement.default("onnxruntime", "bert").policy == Policy(frozenset(table["winner"]))
    assert f"stored in {shelf}" in answer.err
    assert table["command"].startswith("make place MODEL=bert CHECKPOINT='…/")
    assert " BACKEND=onnxruntime ARGS=" in table["command"] and table["command"].endswith(" --rounds 6'")

    first = {tuple(r["toggled"]): r for r in table["rows"] if r["round"] == 1}
    present = [("linear",), ("scores",), ("context",), ("local",), ("residual",), ("head",), ("local", "residual")]
    assert list(first) == present
    # where sums may saturate, attention is float whatever is asked for
    same = {("scores",), ("context",)} if processor.bounded(recipe) else set()
    assert {move for move, row in first.items() if "the same graph as" in row["why"]} == same
    for row in (row for move, row in first.items() if move not in same):
        assert row["refused"] or row["speedup"]["low"] <= row["speedup"]["median"] <= row["speedup"]["high"]
        assert row["refused"] or row["accuracy"]["samples"] == 6
        assert set(row["kinds"]) == DEFAULT ^ set(row["toggled"]) and row["on"] is not (row["toggled"][0] in DEFAULT)
    assert "bert on onnxruntime, accuracy of" in answer.out and "winner:" in answer.out
    for line in ("0  default", "1  linear on -> off", "1  local + residual off -> on"):
        assert line in answer.out
    measured = stored.read(stored.user_folder(), "onnxruntime")["bert"][machine.processor_class()]["measured"]
    assert measured["command"] == table["command"] and measured["latency"]["winner"]["p50"] > 0
    assert [t["toggled"] for t in measured["tried"]] == [r["toggled"] for r in table["rows"] if r["round"]]


def test_another_default_makes_the_graph_stale(recipe: Recipe) -> None:
    stages.run("lower", recipe)
    assert stages.why_stale("lower", recipe) == []
    changed = Policy(DEFAULT - {"context"} | {"head"})
    stored.store(stored.user_folder(), "onnxruntime", "bert", machine.processor_class(), changed, {})
    changes = ["context by default changed: on -> off", "head by default changed: off -> on"]
    assert stages.why_stale("lower", recipe) == changes
    automatic = selection.automatic(recipe)
    assert "head by default" in stages.load("select").inputs(Run.of(automatic))
    stages.run("lower", recipe)
    rows = json.loads((recipe.folder / "onnxruntime" / "placement.json").read_text())["quantizers"]
    float_here = {"scores", "context"} if processor.bounded(recipe) else {"context"}
    assert {r["kind"] for r in rows if r["enabled"]} == DEFAULT - float_here | {"head"}


def side_of(recipe: Recipe, tmp_path: Path) -> placement_engines.Side:
    return placement_engines.Side(Run.of(recipe), tmp_path / "area")


def test_an_engine_that_is_not_its_graph_is_refused(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backends.get("onnxruntime")
    load = backend.load
    side = side_of(recipe, tmp_path)
    digest = side.lower(MAX, Policy(DEFAULT))
    assert side.build(digest)
    assert [p.name for p in side.area.iterdir()] == [digest], "the graph is not kept"

    def wrong(folder: Path, threads: int | None) -> Any:
        engine = load(folder, threads)
        return lambda feeds: {name: -value for name, value in engine(feeds).items()}

    monkeypatch.setattr(backend, "load", wrong)
    engines = placement_engines.BuiltEngines(side, side, MAX, tasks.get("question-answering"), side.reference, 6)
    found = engines.make(DEFAULT - {"context"})
    assert found.scores is None and str(found.fault).startswith("bert: start_logits, one by one: the difference has")
    assert "as one batch" in str(found.fault)
    row = place.row(Trial(1, ("context",), found, f"refused: {found.fault}"))
    assert row["refused"] == found.fault and row["accuracy"] is None and row["speedup"] is None


def test_the_recipes_own_placement_stays_on_top(recipe: Recipe, tmp_path: Path) -> None:
    own = recipe.placement.model_copy(update={"disable": ("*attention.self*",), "residual": "none"})
    side = side_of(recipe.model_copy(update={"placement": own}), tmp_path)
    engines = placement_engines.BuiltEngines(side, side, MAX, tasks.get("question-answering"), side.reference, 6)
    graphs = {kind: engines.make(DEFAULT ^ {kind}).graphs for kind in ("scores", "context", "local", "residual")}
    start = engines.make(DEFAULT)
    assert set(graphs.values()) == {start.graphs}, "the recipe has decided about these"
    assert engines.make(DEFAULT ^ {"head"}).graphs != start.graphs
    engines.keep(start)
    assert [p.name for p in side.area.iterdir() if p.is_dir()] == [start.graphs[0]]
    nothing = engines.make(frozenset({"scores"}))
    assert nothing.fault and "leaves no quantizer on" in nothing.fault


def test_a_shape_has_a_folder_of_its_own_and_the_recipes_settings(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def settings(name: str, folder: Path, calibration: int) -> dict[str, Any]:
        asked.append((name, folder))
        return {"checkpoint": "there", "calibration.samples": 24}

    monkeypatch.setattr(place.published, "settings", settings)
    made = place.shaped(recipe, "bert-base")
    assert asked == [("bert-base", recipe.folder.parent / "bench-bert-base")] and made.folder == asked[0][1]
    assert (made.shapes, made.backend, made.checkpoint) == (recipe.shapes, "onnxruntime", "there")
    assert made.verification.threads == recipe.verification.threads
    with pytest.raises(InputError, match=r"the shape segformer-b0 is a segformer, not a bert\."):
        place.shaped(recipe, "segformer-b0")
    with pytest.raises(InputError, match=r"unknown shape 'bert-bas'\. Did you mean bert-base"):
        place.shaped(recipe, "bert-bas")
    with pytest.raises(InputError, match="another checkpoint's --output"):
        place.shaped(recipe.model_copy(update={"folder": made.folder}), "bert-base")


@pytest.mark.slow
def test_latency_of_one_checkpoint_and_accuracy_of_another(
    recipe: Recipe, checkpoints: dict[str, Path], data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(name: str, folder: Path, calibration: int) -> dict[str, Any]:
        return {
            "checkpoint": str(checkpoints["classifier"]),
            "data": str(data["classifier"]),
            "calibration.samples": 8,
            "verification.samples": 8,
        }

    monkeypatch.setattr(place.published, "settings", settings)
    table = place.run(recipe, shape="bert-base", rounds=6)
    folder = recipe.folder.parent / "bench-bert-base"
    assert json.loads((folder / "quantizers.json").read_text())["task"] == "text-classification"
    assert table["accuracy"]["metric"] == "f1" and table["shape"] == "bert-base"
    assert not (folder / "onnxruntime").exists() and (recipe.folder / "onnxruntime" / "place.json").exists()
    assert any(row["speedup"] for row in table["rows"])


# --- the command ---


def options(recipe: Recipe) -> list[str]:
    more = {"calibration.selection_samples": 6, "budgets.relative_drop": 1, "budgets.agreement": 0}
    found = [x for key, value in more.items() for x in ("--set", f"{key}={value}")]
    return [*options_of(recipe), "--backend", recipe.backend, "--rounds", "6", *found]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Returns the table that every search gives from then on: linear layers off, scores on, in one round."""
    fake = Fake(seconds={"linear": 0.1, "scores": -0.1})
    best, trials = search(frozenset({"linear"}), MOVES, fake, LIMITS)
    seconds = {"p50": 1.0, "p90": 1.0, "p99": 1.0, "mean": 1.0}
    made: dict[str, Any] = {
        "command": "make place", "model": "bert", "checkpoint": "embedded", "family": "bert", "backend": "onnxruntime",
        "shape": None, "inputs": {"input_ids": [1, 8]}, "rounds": ROUNDS, "placement": {}, "budgets": {},
        "default": ["linear"], "winner": in_order(best.kinds), "kept": None, "missed": None,
        "accuracy": dict(best.judged),
        "latency": {"default": seconds, "winner": seconds, "speedup": {"median": 1.5, "low": 1.25, "high": 1.75}},
        "rows": [place.row(trial) for trial in trials],
        "environment": machine.environment(1, {"onnxruntime": "1"}),
    }  # fmt: skip
    monkeypatch.setattr(place, "run", lambda *_, **__: made)
    return made


def test_the_winner_is_printed_with_what_it_changes(cli: Cli, shelf: Path, table: dict[str, Any]) -> None:
    answer = cli("place", "bert")
    assert answer.code == 0, answer.err
    assert "winner: + scores - linear, 1.500x the default's speed (1.250–1.750), 1.00 -> 1.00 ms" in answer.out
    assert placement.default("onnxruntime", "bert").policy == Policy(frozenset({"scores"}))


def test_the_default_stays_where_the_last_measurement_is_against_the_search() -> None:
    start = Fake().make(START)
    slower = {"median": 0.9, "low": 0.8, "high": 0.95}
    assert "slower than the default: 0.900x" in str(place.contradiction(start, slower, LIMITS))
    assert place.contradiction(start, {**slower, "high": 1.01}, LIMITS) is None, "as fast, for more accuracy"
    assert place.contradiction(start, None, LIMITS) is None
    over = Fake(drops={"linear": 0.02}).make(START)
    assert place.contradiction(over, slower, LIMITS) is None, "the budgets come before speed"


def test_no_store_and_json(cli: Cli, shelf: Path, table: dict[str, Any]) -> None:
    before = shelf.read_bytes()
    answer = cli("place", "bert", "--no-store", "--json")
    assert answer.code == 0 and json.loads(answer.out) == json.loads(json.dumps(table))
    assert shelf.read_bytes() == before


def test_the_projects_own_are_changed_in_a_checkout_alone(
    cli: Cli, shelf: Path, table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PROJECT", tmp_path / "pipeline" / "backends" / "placements")
    before = shelf.read_bytes()
    answer = cli("place", "bert", "--project")
    assert answer.code == 2 and "belongs to an installed package" in answer.err
    (tmp_path / "pyproject.toml").touch()
    assert cli("place", "bert", "--project").code == 0 and (stored.PROJECT / "onnxruntime.json").exists()
    assert shelf.read_bytes() == before


def test_missed_budgets_are_exit_code_1_and_nothing_is_stored(cli: Cli, shelf: Path, table: dict[str, Any]) -> None:
    before = shelf.read_bytes()
    table["missed"] = "agreement 0.9, budget 0.95"
    answer = cli("place", "bert")
    assert answer.code == 1 and "winner:" in answer.out and shelf.read_bytes() == before
    assert "meets the budgets (agreement 0.9, budget 0.95); nothing is stored" in answer.err


def test_a_folder_that_cannot_be_written_is_said_after_the_table(
    cli: Cli, shelf: Path, table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(stored, "write_atomic", refuse)
    answer = cli("place", "bert")
    assert answer.code == 2 and "winner:" in answer.out
    assert f"{shelf} cannot be written (Permission denied)" in answer.err and "--no-store" in answer.err


def test_a_backend_that_cannot_run_is_exit_code_3(cli: Cli, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.get("onnxruntime"), "unavailable_reason", lambda: "not today")
    before = snapshot(recipe.folder)
    answer = cli("place", "bert", *options(recipe))
    assert answer.code == 3 and "not today" in answer.err and snapshot(recipe.folder) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["brt"], "unknown model 'brt'. Did you mean bert"),
        (["bert", "--shape", "bert-bas"], "unknown shape 'bert-bas'. Did you mean bert-base"),
        (["bert", "--shape", "segformer-b0"], "the shape segformer-b0 is a segformer, not a bert."),
        (["bert", "--backend", "openvimo"], "openvimo"),
    ],
)
def test_faults_come_before_any_work(cli: Cli, tmp_path: Path, arguments: list[str], said: str) -> None:
    answer = cli("place", *arguments, "--output", tmp_path / "none")
    assert answer.code == 2 and said in answer.err and answer.out == ""
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_that_is_not_there_stores_nothing(cli: Cli, shelf: Path, tmp_path: Path) -> None:
    before = shelf.read_bytes()
    answer = cli("place", "bert", "--checkpoint", tmp_path / "nowhere", "--output", tmp_path / "none")
    assert answer.code == 2 and str(tmp_path / "nowhere") in answer.err and shelf.read_bytes() == before
