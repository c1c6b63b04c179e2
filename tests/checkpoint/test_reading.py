"""Odd checkpoints: what means the same is read, everything else names the file, what was found and what to do.

All of it at quantize, before anything expensive; no exception of a library's gets through.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers import tiny
from helpers.command_line import Cli
from helpers.messages import all_of
from helpers.runs import options_of, recipe_for
from pipeline import checkpoint, families
from pipeline.checkpoint import reading
from pipeline.checkpoint import weights as checkpoint_weights
from pipeline.errors import InputError
from pipeline.model import loading
from pipeline.tasks import _pooling

Copy = Callable[[str], Path]
Damage = Callable[[Path], object]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 438001234\n"
MARK = b"\xef\xbb\xbf"


def config(**changes: Any) -> Damage:
    """Changes keys of config.json; None removes one, and ... means null."""
    return lambda folder: edit(folder / "config.json", **changes)


def edit(path: Path, **changes: Any) -> None:
    content = {**(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}), **changes}
    written = {k: None if v is ... else v for k, v in content.items() if v is not None}
    path.write_text(json.dumps(written), encoding="utf-8")


def weights(change: Callable[[str, np.ndarray], tuple[str, np.ndarray]]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(dict(change(*item) for item in load_file(path).items()), path, metadata={"format": "pt"})

    return damage


def added(name: str, value: np.ndarray) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({**load_file(path), name: value}, path, metadata={"format": "pt"})

    return damage


def both(*damages: Damage) -> Damage:
    return lambda folder: [damage(folder) for damage in damages]


def marked(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes(MARK + (folder / name).read_bytes())


def put(name: str, content: bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return damage


def as_folder(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def one_token_type(folder: Path) -> None:
    edit(folder / "config.json", type_vocab_size=1)
    weights(lambda n, w: (n, w[:1] if "token_type" in n else w))(folder)


def source_of(name: str, folder: Path) -> loading.Source:
    return loading.open_source(recipe_for(name, folder.parent / "out", folder, folder))


def refuse(name: str, damage: Damage, expected: list[str], copy_of: Copy) -> None:
    """Raises AssertionError where a checkpoint is not refused, or not with these words."""
    folder = copy_of(name)
    damage(folder)
    with pytest.raises(InputError, match=all_of(*expected)):
        loading.float_model(source_of(name, folder))


# --- config.json ---

BERT: dict[str, tuple[Damage, list[str]]] = {
    "a number in quotes": (config(hidden_size="64"), ["hidden_size = '64'", "valid integer"]),
    "null": (config(vocab_size=...), ["vocab_size = None"]),
    "a fraction": (config(intermediate_size=128.5), ["intermediate_size = 128.5"]),
    "no layers": (config(num_hidden_layers=0), ["num_hidden_layers = 0", "greater than or equal to 1"]),
    "endless layers": (config(num_hidden_layers=10**9), ["num_hidden_layers = 1000000000"]),
    "several": (config(hidden_size="64", vocab_size=-1), ["hidden_size = '64'", "vocab_size = -1"]),
    "heads": (config(num_attention_heads=5), ["hidden_size = 64 is not a multiple of num_attention_heads = 5"]),
    "a decoder": (config(is_decoder=True), ["is_decoder = True, but BertForQuestionAnswering is no BertLMHeadModel"]),
    "cross attention": (config(is_decoder=True, add_cross_attention=True), ["add_cross_attention = True"]),
    "padding beyond the vocabulary": (config(pad_token_id=5000), ["pad_token_id = 5000, but vocab_size = "]),
    "an activation": (config(hidden_act="geluu"), ["hidden_act = 'geluu' is unknown", "Did you mean gelu"]),
    "no activation": (config(hidden_act=...), ["hidden_act = None"]),
    "a number that only transformers reads": (config(layer_norm_eps="1e-12"), ["does not load", "layer_norm_eps"]),
    "a model type that nobody knows": (config(model_type="foo"), ["model_type is 'foo', not 'bert'"]),
    "another model type": (config(model_type="roberta"), ["model_type is 'roberta', not 'bert'"]),
    "an architecture that is no list": (config(architectures="BertModel"), ["must be a list", "'BertModel'"]),
    "labels that are text": (config(id2label="a, b"), ["id2label must be", "'a, b'"]),
    "labels with a gap": (config(id2label={"0": "a", "2": "b"}), ["id2label must be", "'2': 'b'"]),
    "labels that are no numbers": (config(id2label={"a": "b"}), ["id2label must be"]),
    "a label that is null": (config(id2label={"0": "a", "1": None}), ["id2label has None as a name"]),
    "labels and their number": (config(id2label=["a", "b"], num_labels=3), ["num_labels = 3", "id2label names 2"]),
    "more labels than weights": (config(num_labels=3), ["'qa_outputs.bias', [2] instead of [3]"]),
    "another vocabulary": (config(vocab_size=None), ["word_embeddings.weight", "instead of [30522, 64]"]),
    "bitsandbytes": (
        config(quantization_config={"quant_method": "bitsandbytes"}),
        ["quantized already (bitsandbytes)"],
    ),
    "a quantizer by name alone": (config(quantization_config="awq"), ["is quantized already (awq)"]),
    "sparse": (config(compression_config={"format": "int"}), ["is quantized already"]),
}
SEGFORMER: dict[str, tuple[Damage, list[str]]] = {
    "four channels": (config(num_channels=4), ["num_channels = 4", "3 channels"]),
    "one channel": (config(num_channels=1), ["num_channels = 1", "3 channels"]),
    "a stage without layers": (config(depths=[1, 0, 1, 1]), ["depths.1 = 0"]),
    "too few depths": (config(depths=[1, 1, 1]), ["depths = [1, 1, 1] must have 4 numbers"]),
    "a depth that is no list": (config(depths=2), ["depths = 2"]),
    "heads": (config(num_attention_heads=[32, 1, 2, 2]), ["hidden_sizes has 16", "its 32 attention heads"]),
    "no stride": (config(strides=[0, 2, 2, 2]), ["strides.0 = 0"]),
    "an activation": (config(hidden_act="foo"), ["hidden_act = 'foo' is unknown"]),
    "other widths": (config(decoder_hidden_size=32), ["do not have the shape that config.json gives"]),
}


@pytest.mark.parametrize("case", BERT)
def test_a_config_that_is_no_bert(case: str, copy_of: Copy) -> None:
    refuse("bert", *BERT[case], copy_of)


@pytest.mark.parametrize("case", SEGFORMER)
def test_a_config_that_is_no_segformer(case: str, copy_of: Copy) -> None:
    refuse("segformer", *SEGFORMER[case], copy_of)


def test_a_reduction_that_is_larger_than_the_map_is_refused(copy_of: Copy) -> None:
    folder = copy_of("segformer")
    edit(folder / "config.json", sr_ratios=[8, 16, 2, 1])
    with pytest.raises(
        InputError, match=r"image_size = 64 leaves stage 1 a map of 8×8, smaller than its reduction by 16"
    ):
        source_of("segformer", folder)


@pytest.mark.parametrize("family", families.names())
def test_the_defaults_are_those_of_transformers(family: str) -> None:
    import transformers

    own = transformers.AutoConfig.for_model(families.get(family).MODEL_TYPE)
    for name, value in families.get(family).CONFIG():
        expected = getattr(own, name)
        assert value == (tuple(expected) if isinstance(value, tuple) else expected), name


# --- what means the same ---

SAME: dict[str, tuple[str, Damage]] = {
    "chunks of the feed-forward layers": ("bert", config(chunk_size_feed_forward=7)),
    "tuples": ("bert", config(return_dict=False)),
    "more outputs": ("bert", config(output_attentions=True, output_hidden_states=True, torchscript=True)),
    "another attention": ("bert", config(_attn_implementation="flash_attention_2")),
    "a data type of no meaning here": ("bert", config(dtype="float7")),
    "labels as a list": ("classifier", config(id2label=["LABEL_0", "LABEL_1"], label2id=["LABEL_0", "LABEL_1"])),
    "a byte-order mark": ("bert", marked("config.json")),
    "a byte-order mark, of a tokenizer": ("bert", marked("tokenizer.json")),
    "a byte-order mark, of an image processor": ("segformer", marked("preprocessor_config.json")),
    "DataParallel": ("bert", weights(lambda n, w: (f"module.{n}", w))),
    "DataParallel and what pretraining left": (
        "bert",
        both(added("cls.predictions.bias", np.ones(4, np.float32)), weights(lambda n, w: (f"module.{n}", w))),
    ),
    "DataParallel, an encoder": ("encoder", weights(lambda n, w: (f"module.{n}", w))),
    "DataParallel, images": ("segformer", weights(lambda n, w: (f"module.{n}", w))),
    "torch.compile": ("classifier", weights(lambda n, w: (f"_orig_mod.module.{n}", w))),
    "no architecture": ("bert", config(architectures=None)),
    "no architecture, an encoder": ("encoder", config(architectures=[])),
    "no architecture, images": ("segformer", config(architectures=None)),
    "one number for the mean": (
        "segformer",
        lambda f: edit(f / "preprocessor_config.json", image_mean=0.5, image_std=0.25),
    ),
    "litter": (
        "bert",
        both(put("._config.json", b"\0"), put(".DS_Store", b"\0"), put("._model.safetensors", b"\0")),
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_means_the_same_gives_the_same(
    case: str, cli: Cli, copy_of: Copy, checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path
) -> None:
    name, damage = SAME[case]
    folder = copy_of(name)
    damage(folder)
    recipe = recipe_for(name, tmp_path / "out", folder, data[name])
    answer = cli("quantize", recipe.family, *options_of(recipe))
    assert answer.code == 0, answer.err
    assert ("names no architecture; by its weights it is a" in answer.err) == ("no architecture" in case)
    found, expected = source_of(name, folder), source_of(name, checkpoints[name])
    assert (found.architecture, found.task_name) == (expected.architecture, expected.task_name)
    sample = loading.random_inputs(expected, recipe)
    outputs, before = (loading.run_torch(loading.float_model(s), sample, expected.outputs) for s in (found, expected))
    for key in expected.outputs:
        np.testing.assert_array_equal(outputs[key], before[key])
    for file in expected.family.COPIED:  # the artifact's files are in plain UTF-8
        if (recipe.folder / file).exists():
            assert isinstance(json.loads((recipe.folder / file).read_text(encoding="utf-8")), dict)
    written = json.loads((recipe.folder / "config.json").read_text(encoding="utf-8"))
    assert not isinstance(written.get("id2label"), list)


def test_only_a_prefix_of_every_weight_is_taken_off() -> None:
    assert checkpoint_weights.wrapper(["module.a", "module.b"]) == "module."
    assert checkpoint_weights.wrapper(["module._orig_mod.a", "module._orig_mod.b"]) == "module._orig_mod."
    for names in ([], ["module.a", "b"], ["model.a", "model.b"], ["modules.a"]):
        assert checkpoint_weights.wrapper(names) == ""


def test_weights_under_another_name_are_named(copy_of: Copy) -> None:
    refuse(
        "bert",
        weights(lambda n, w: (f"model.{n}", w)),
        ["lacks 39 weights", "It has others, like 'model.bert.embeddings.LayerNorm.bias'"],
        copy_of,
    )


def test_heads_that_look_alike_are_not_guessed(copy_of: Copy) -> None:
    expected = ["names no architecture", "classifier.", "BertForSequenceClassification or BertForTokenClassification"]
    refuse("classifier", config(architectures=None), expected, copy_of)


def test_weights_that_tell_nothing_list_what_is_possible(copy_of: Copy) -> None:
    folder = copy_of("bert")
    weights(lambda n, w: (f"x.{n}", w))(folder)
    with pytest.raises(InputError, match=r"weights do not tell; it may be .*BertForQuestionAnswering or .*BertModel"):
        checkpoint.architecture_in(folder, families.get("bert").WEIGHTS)


# --- one token type ---


@pytest.mark.parametrize("name", ["classifier", "encoder"])
def test_one_token_type_is_enough_for_single_texts(
    name: str, cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of(name)
    one_token_type(folder)
    recipe = recipe_for(name, tmp_path / "out", folder, data[name])
    assert cli("quantize", "bert", *options_of(recipe)).code == 0


@pytest.mark.parametrize("more", [[], ["--no-rewrites"]], ids=["", "no rewrites"])
def test_one_token_type_is_too_few_for_pairs(
    more: list[str], cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of("bert")
    one_token_type(folder)
    answer = cli("quantize", "bert", *options_of(recipe_for("bert", tmp_path / "out", folder, data["bert"])), *more)
    assert answer.code == 2 and str(folder) in answer.err
    assert "token_type_ids: holds 1; expected integers from 0 to 0" in answer.err


# --- files ---

BROKEN: dict[str, tuple[bytes, str]] = {
    "a Git LFS pointer": (POINTER, "is a Git LFS pointer: the file itself was not fetched. Run `git lfs pull`"),
    "empty": (b"", "is empty"),
    "cut": (b'{"a": ', "is not valid JSON"),
    "a list": (b"[]", "must hold a JSON object, found list"),
    "too deep": (b"[" * 100_000, "is not valid JSON: maximum recursion"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "is not UTF-8 text"),
}
FILES = {
    "bert": ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    "segformer": ("config.json", "preprocessor_config.json"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize(("name", "file"), [(n, f) for n, files in FILES.items() for f in files])
def test_a_broken_file_is_named(
    name: str, file: str, what: str, cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    content, said = BROKEN[what]
    folder = copy_of(name)
    (folder / file).write_bytes(content)
    answer = cli("quantize", name, *options_of(recipe_for(name, tmp_path / "out", folder, data[name])))
    assert answer.code == 2 and answer.err.count("error: ") == 1, answer.err
    assert f"{folder / file} {said}" in answer.err
    assert not (tmp_path / "out" / "quantizers.json").exists()


@pytest.mark.parametrize(("name", "file"), [(n, f) for n, files in FILES.items() for f in files])
def test_a_folder_in_the_place_of_a_file_is_named(
    name: str, file: str, cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of(name)
    as_folder(file)(folder)
    answer = cli("quantize", name, *options_of(recipe_for(name, tmp_path / "out", folder, data[name])))
    assert answer.code == 2 and f"{folder / file} cannot be read: Is a directory" in answer.err, answer.err


VOCABULARY = "\n".join(tiny.VOCABULARY).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (VOCABULARY, None),
        (MARK + VOCABULARY, None),
        (POINTER, "vocab.txt is a Git LFS pointer"),
        (b"\xff\xfe\n[PAD]", "nor a vocabulary that converts to one"),
    ],
    ids=["plain", "marked", "pointer", "latin"],
)
def test_a_vocabulary_alone(
    content: bytes, said: str | None, cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of("bert")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_bytes(content)
    edit(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    answer = cli("quantize", "bert", *options_of(recipe_for("bert", tmp_path / "out", folder, data["bert"])))
    assert answer.code == (2 if said else 0) and (said or "") in answer.err, answer.err
    if not said:
        vocabulary = json.loads((tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
        assert vocabulary["[PAD]"] == 0 and len(vocabulary) == len(set(tiny.VOCABULARY))


@pytest.mark.parametrize("changes", [{"tokenizer_class": "FooTokenizer"}, {"tokenizer_class": "BertJapaneseTokenizer"}])
def test_a_tokenizer_that_transformers_does_not_make(
    changes: dict[str, Any], cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of("bert")
    edit(folder / "tokenizer_config.json", **changes)
    answer = cli("quantize", "bert", *options_of(recipe_for("bert", tmp_path / "out", folder, data["bert"])))
    assert answer.code == 2 and f"{folder}: its own tokenizer or image processor fails in transformers" in answer.err


HEADER: dict[str, tuple[Damage, str]] = {
    "a Git LFS pointer": (put("model.safetensors", POINTER), "model.safetensors is a Git LFS pointer"),
    "text": (put("model.safetensors", b"no safetensors at all"), "cannot be read as safetensors"),
    "an endless header": (put("model.safetensors", (1 << 62).to_bytes(8, "little") + b"{}"), "header too large"),
    "a folder": (as_folder("model.safetensors"), "model.safetensors is a folder"),
    "booleans": (weights(lambda n, w: (n, w > 0 if n.endswith("0.output.dense.weight") else w)), "1 weights as BOOL"),
}


@pytest.mark.parametrize("case", HEADER)
def test_weights_that_cannot_be_read(case: str, copy_of: Copy) -> None:
    damage, said = HEADER[case]
    folder = copy_of("bert")
    damage(folder)
    with pytest.raises(InputError, match=said):
        checkpoint_weights.check_weights(folder)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("tf_model.h5", "Found tf_model.h5: only safetensors are read"),
        ("flax_model.msgpack", "Found flax_model.msgpack: only safetensors are read"),
        ("model.fp16.safetensors", r"Found model.fp16.safetensors: .*rename"),
        ("pytorch_model.bin", r"pickles can run code .*save_pretrained\(\), which writes model.safetensors"),
        ("._pytorch_model.bin", r"has no model.safetensors\. It holds config.json, tokenizer.json\.$"),
    ],
)
def test_weights_of_another_form(file: str, said: str, copy_of: Copy) -> None:
    folder = copy_of("bert")
    (folder / "model.safetensors").rename(folder / file)
    with pytest.raises(InputError, match=said):
        checkpoint_weights.weight_files(folder)


# --- folders ---


def test_the_output_folder_of_a_trainer_names_its_checkpoints(copy_of: Copy, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (500, 1000, 20000):
        shutil.copytree(copy_of("bert"), folder / f"checkpoint-{step}")
        shutil.rmtree(tmp_path / "bert-copy")
    (folder / "._checkpoint-30000").write_bytes(b"\0")
    (folder / "runs").mkdir()
    with pytest.raises(InputError, match=r"no config.json\. It holds .*checkpoint-500, checkpoint-1000, ") as error:
        source_of("bert", folder)
    assert f"CHECKPOINT={folder / 'checkpoint-20000'}." in str(error.value), "the last step, not the last name"
    shutil.copy(folder / "checkpoint-500" / "config.json", folder)
    with pytest.raises(InputError, match=r"no model.safetensors\. It holds .*checkpoint-20000"):
        checkpoint_weights.weight_files(folder)


def test_an_encoder_in_a_folder_of_its_own_keeps_its_pooling(copy_of: Copy, tmp_path: Path) -> None:
    """As early sentence-transformers saved it: given alone, the model would be pooled by the mean."""
    folder = tmp_path / "sentences"
    shutil.copytree(copy_of("encoder"), folder / "0_Transformer")
    kinds = {"0_Transformer": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"keeps its model in 0_Transformer: copy the files in there beside modules\.json"
    ):
        source_of("bert", folder)
    with pytest.raises(InputError, match=r"0_Transformer is one module of .*modules.json, which says how to pool"):
        _pooling.of_checkpoint(folder / "0_Transformer")


@pytest.mark.parametrize(("names", "said"), [([], "It is empty"), (["a.txt", ".DS_Store"], r"It holds a\.txt\.$")])
def test_a_folder_that_is_no_checkpoint(names: list[str], said: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=said):
        reading.read_config(tmp_path)


def test_a_file_of_a_checkpoint_names_its_folder(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=rf"is a file; give the folder .*{checkpoints['bert']}\.$"):
        checkpoint.resolve(str(checkpoints["bert"] / "model.safetensors"), "bert")


# --- outputs ---


@pytest.mark.parametrize("more", [[], ["--no-rewrites"]], ids=["", "no rewrites"])
def test_a_model_that_loads_and_does_not_run(
    more: list[str], cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of("bert")
    edit(folder / "config.json", id2label={"0": "span"})  # one output, where start and end are two
    weights(lambda n, w: (n, w[:1] if "qa_outputs" in n else w))(folder)
    answer = cli("quantize", "bert", *options_of(recipe_for("bert", tmp_path / "out", folder, data["bert"])), *more)
    assert answer.code == 2 and "loads as BertForQuestionAnswering and does not run on input_ids [1, 32]" in answer.err
    assert "PyTorch says ValueError: not enough values to unpack" in answer.err


def test_outputs_that_overflow_and_outputs_of_zero(
    cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of("bert")
    recipe = recipe_for("bert", tmp_path / "out", folder, data["bert"])
    weights(lambda n, w: (n, np.zeros_like(w) if "qa_outputs" in n else w))(folder)
    answer = cli("quantize", "bert", *options_of(recipe))
    assert answer.code == 2 and f"{folder} gives 0 in all of start_logits, end_logits" in answer.err
    weights(lambda n, w: (n, w * np.float32(1e30) if n.endswith("dense.weight") else w))(folder)
    answer = cli("quantize", "bert", *options_of(recipe))
    assert answer.code == 2 and f"{folder} gives NaN or infinite outputs" in answer.err
