"""Finding checkpoints: folders, hub ids in the local cache without a network, and what is refused at once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers import ROOT
from helpers.messages import all_of
from helpers.runs import options_of, recipe_for
from pipeline import checkpoint
from pipeline.checkpoint import weights as checkpoint_weights
from pipeline.errors import InputError
from pipeline.model import loading

Copy = Callable[[str], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_cache(home: Path, hub_id: str, source: Path) -> Path:
    """Returns the snapshot folder of a cache as huggingface_hub leaves it: blobs, refs, snapshots of links."""
    repository = home / "hub" / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for number, file in enumerate(sorted(source.iterdir())):
        shutil.copy(file, repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    return snapshot


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns an empty hub home, offline, for calls in this process."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "home"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Yields the address of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


# --- where it is ---


def test_without_a_checkpoint_it_is_the_embedded_one() -> None:
    assert checkpoint.resolve(None, "segformer") == checkpoint.EMBEDDED / "segformer"


def test_a_folder_is_itself(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkpoint.resolve(str(checkpoints["bert"]), "bert") == checkpoints["bert"]
    monkeypatch.setenv("HOME", str(checkpoints["bert"].parent))
    assert checkpoint.resolve("~/bert", "bert") == checkpoints["bert"]
    monkeypatch.chdir(checkpoints["bert"].parent.parent)
    relative = f"{checkpoints['bert'].parent.name}/bert"
    assert checkpoint.resolve(relative, "bert") == Path(relative), "a folder wins over a hub id of the same form"


def test_a_hub_id_in_the_cache_is_found_without_a_network(home: Path, checkpoints: dict[str, Path]) -> None:
    snapshot = hub_cache(home, "tiny-lab/bert", checkpoints["bert"])
    found = checkpoint.resolve("tiny-lab/bert", "bert")
    assert found.resolve() == snapshot.resolve()
    checkpoint_weights.check_weights(found)


def test_a_hub_id_that_is_not_in_the_cache_names_the_option_and_the_cache_without_a_network(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    said = all_of("CHECKPOINT=tiny-lab/bert", home / "hub", "offline", "config.json and model.safetensors")
    with pytest.raises(InputError, match=said):
        checkpoint.resolve("tiny-lab/bert", "bert")


@pytest.mark.parametrize("hub_id", ["owner/na me", "owner/-name", "owner/name..x", "own:er/name"])
def test_an_impossible_hub_id_is_told_from_a_missing_one(hub_id: str, home: Path) -> None:
    with pytest.raises(InputError, match="not a valid hub id"):
        checkpoint.resolve(hub_id, "bert")


def run(home: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a fresh process: the hub's settings are read when it is imported. It must end in a minute."""
    keep = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
    settings = {**keep, "HF_HOME": str(home), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings, timeout=60)


RESOLVE = """
from pipeline import checkpoint
from pipeline.errors import InputError
try:
    print(checkpoint.resolve("tiny-lab/bert", "bert"))
except InputError as error:
    print(error)
"""


def test_the_whole_stage_runs_from_the_cache_with_only_the_environment_set(
    tmp_path: Path, checkpoints: dict[str, Path], data: dict[str, Path]
) -> None:
    hub_cache(tmp_path / "home", "tiny-lab/bert", checkpoints["bert"])
    recipe = recipe_for("bert", tmp_path / "exports", checkpoints["bert"], data["bert"])
    recipe = recipe.model_copy(update={"checkpoint": "tiny-lab/bert"})
    arguments = ["quantize", "bert", *options_of(recipe)]
    code = f"import sys; from pipeline.cli.main import main; sys.argv[1:] = {arguments!r}; main()"
    done = run(tmp_path / "home", code, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "exports" / "quantizers.json").read_text(encoding="utf-8"))
    assert made["checkpoint"] == "tiny-lab/bert" and made["quantizers"]


def test_a_refused_connection_is_a_clear_error(tmp_path: Path) -> None:
    done = run(tmp_path / "home", RESOLVE, HF_ENDPOINT="http://127.0.0.1:9")
    assert "CHECKPOINT=tiny-lab/bert" in done.stdout and str(tmp_path / "home" / "hub") in done.stdout, done.stderr


def test_a_hub_that_never_answers_is_not_waited_for(tmp_path: Path, silent_server: str) -> None:
    done = run(tmp_path / "home", RESOLVE, HF_ENDPOINT=silent_server)
    assert "CHECKPOINT=tiny-lab/bert" in done.stdout and "did not serve it" in done.stdout, done.stderr


# --- what is in it ---


def test_weights_are_read_from_shards_named_by_the_index(copy_of: Copy) -> None:
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, chosen in parts.items():
        save_file({n: weights[n] for n in chosen}, folder / part)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {n: part for part, chosen in parts.items() for n in chosen}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert [p.name for p in checkpoint_weights.weight_files(folder)] == ["a.safetensors", "b.safetensors"]
    checkpoint_weights.check_weights(folder)
    (folder / "b.safetensors").write_bytes((folder / "b.safetensors").read_bytes()[:-8])
    with pytest.raises(InputError, match=r"b\.safetensors.*truncated"):
        checkpoint_weights.check_weights(folder)


@pytest.mark.parametrize("name", ["missing.safetensors", "../outside.safetensors", "/etc/passwd"])
def test_an_index_can_only_name_files_of_its_folder(name: str, copy_of: Copy) -> None:
    folder = copy_of("bert")
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"some.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InputError, match="not files of the folder"):
        checkpoint_weights.weight_files(folder)


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"weight_map": 3}'])
def test_an_index_that_is_none(content: str, copy_of: Copy) -> None:
    folder = copy_of("bert")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json"):
        checkpoint_weights.weight_files(folder)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickles_are_named_and_not_opened(pickle: str, tmp_path: Path) -> None:
    (tmp_path / pickle).write_bytes(b"cos\nsystem\n(S'touch /tmp/opened'\ntR.")
    with pytest.raises(InputError, match=f"{pickle}: pickles can run code and are not read"):
        checkpoint_weights.weight_files(tmp_path)


def test_every_weight_with_a_nan_is_counted(copy_of: Copy) -> None:
    folder = copy_of("segformer")
    weights = load_file(folder / "model.safetensors")
    names = sorted(n for n in weights if n.endswith("weight"))
    for name in names[:3]:
        weights[name].flat[0] = np.nan
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match="NaN or infinite values in 3 weights") as error:
        checkpoint_weights.check_weights(folder)
    assert names[0] in str(error.value)


def test_half_precision_and_counters_are_no_fault(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    save_torch(
        {
            "a": torch.ones(3, dtype=torch.bfloat16),
            "b": torch.ones(3, dtype=torch.float16),
            "embeddings.position_ids": torch.arange(3),
        },
        tmp_path / "model.safetensors",
    )
    checkpoint_weights.check_weights(tmp_path)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["BertForQuestionAnswering"], "model_type": "bert"}, "question-answering"),
        ({"architectures": ["Other", "BertForQuestionAnswering"], "model_type": "bert"}, "question-answering"),
        ({"architectures": ["BertForMultipleChoice"], "model_type": "bert"}, None),
        ({"architectures": [], "model_type": "bert"}, None),
        ({"model_type": "roberta", "architectures": ["RobertaForQuestionAnswering"]}, None),
        ({}, None),
    ],
)
def test_the_architecture_decides_the_task(config: dict[str, object], expected: str | None) -> None:
    tasks = {"BertForQuestionAnswering": "question-answering"}
    if expected is not None:
        assert checkpoint.task_of(config, tasks, "bert", "bert") == ("BertForQuestionAnswering", expected)
        return
    with pytest.raises(InputError, match="'bert' cannot take") as error:
        checkpoint.task_of(config, tasks, "bert", "bert")
    assert "Available: BertForQuestionAnswering" in str(error.value)


# --- no part of a checkpoint is dropped ---


def stored(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Rewrites a checkpoint's weights after `change` had them."""
    weights: dict[str, Any] = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def opened(name: str, folder: Path, tmp_path: Path) -> Any:
    source = loading.open_source(recipe_for(name, tmp_path / "out", folder, tmp_path))
    return loading.float_model(source)


def test_fewer_layers_in_the_config_than_in_the_file_are_refused(
    copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_of("bert")
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "num_hidden_layers": 1}), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"\d+ weights that BertForQuestionAnswering has no place for, the first is 'bert"
    ):
        opened("bert", folder, tmp_path)


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_a_weight_without_a_place_is_refused(name: str, copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Tables of relative positions, for example, which transformers 5 does not read any more."""
    extra = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    folder = stored(copy_of(name), lambda w: w.update({extra: np.ones((7, 4), np.float32)}))
    with pytest.raises(InputError, match=r"1 weights that \w+ has no place for, the first is .*distance_embedding"):
        opened(name, folder, tmp_path)


@pytest.mark.parametrize("extra", ["cls.predictions.bias", "bert.pooler.dense.bias", "bert.embeddings.position_ids"])
def test_what_pretraining_left_is_no_part_of_the_model(
    extra: str, copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    value = np.arange(4)[None] if extra.endswith("ids") else np.ones(4, np.float32)
    folder = stored(copy_of("bert"), lambda w: w.update({extra: value}))
    checkpoint_weights.check_weights(folder)
    opened("bert", folder, tmp_path)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_integer_weights_are_not_taken_for_floats(dtype: Any, copy_of: Callable[[str], Path]) -> None:
    name = "bert.encoder.layer.0.output.dense.weight"
    folder = stored(copy_of("bert"), lambda w: w.update({name: (w[name] * 100).astype(dtype)}))
    with pytest.raises(
        InputError, match=rf"stores 1 weights as integers, the first is '{name}': it is quantized already"
    ):
        checkpoint_weights.check_weights(folder)


def test_an_adapter_beside_the_base_model_is_refused(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_of("bert")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"holds an adapter .*merge it into the model"):
        opened("bert", folder, tmp_path)


@pytest.mark.parametrize(
    ("config", "said"), [({"quant_method": "gptq"}, "gptq"), ({"bits": 4}, "a quantizer of its own")]
)
def test_a_quantized_checkpoint_is_refused_by_name(
    config: dict[str, Any], said: str, copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_of("bert")
    path = folder / "config.json"
    content = {**json.loads(path.read_text(encoding="utf-8")), "quantization_config": config}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=rf"is quantized already \({said}\)"):
        opened("bert", folder, tmp_path)
