"""Data as owners have it: every form of the hub's gives the same samples, anything else is named for what it is."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny
from pipeline.errors import InputError
from pipeline.tasks import _files, _squad, _tables
from pipeline.tasks import question_answering as qa

CONTEXT = "Ada built the bridge in 1874. In 1874 it rained, é."
ROWS: list[dict[str, Any]] = [
    {"id": "a", "context": CONTEXT, "question": "Who?", "answers": {"text": ["Ada"], "answer_start": [0]}},
    {
        "id": "b",
        "context": CONTEXT,
        "question": "When?",
        "answers": {"text": ["1874", "1874"], "answer_start": [24, 33]},
    },
    {"id": "c", "context": CONTEXT, "question": "What?", "answers": {"text": ["the bridge"], "answer_start": [10]}},
]
QUESTIONS = [{**{k: r[k] for k in ("id", "question", "context")}, "answers": r["answers"]["text"]} for r in ROWS]


def nested(rows: list[dict[str, Any]] = ROWS, **more: Any) -> dict[str, Any]:
    """Returns rows as SQuAD's own document."""
    qas = [
        {
            **{key: value for key, value in row.items() if key not in ("context", "answers")},
            "answers": [{"text": t, "answer_start": s} for t, s in zip(*row["answers"].values(), strict=True)],
        }
        for row in rows
    ]
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": qas, **more}]}]}


def columns(rows: list[dict[str, Any]] = ROWS) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def struct_of_lists() -> dict[str, Any]:
    answers = [row["answers"] for row in ROWS]
    return {**columns(), "answers": {key: [a[key] for a in answers] for key in ("text", "answer_start")}}


FORMS: dict[str, str] = {
    "SQuAD": dumps(nested()),
    "indented": json.dumps(nested(), indent=2),
    "articles": dumps(nested()["data"]),
    "paragraphs": dumps(nested()["data"][0]["paragraphs"]),
    "rows": dumps(ROWS),
    "data of rows": dumps({"data": ROWS}),
    "lines": "\n".join(map(dumps, ROWS)) + "\n",
    "lines of Windows": "\r\n".join(map(dumps, ROWS)) + "\r\n\r\n",
    "lines of articles": dumps(nested()["data"][0]) + "\n",
    "columns": dumps(columns()),
    "data of columns": dumps({"data": columns(), "version": "1"}),
    "columns of columns": dumps(struct_of_lists()),
    "columns of pandas": dumps({k: {str(i): v for i, v in enumerate(c)} for k, c in columns().items()}),
    "a mark first": "\ufeff" + dumps(ROWS),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data"])
def test_every_form_of_squad_gives_the_same_questions(form: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FORMS[form].encode("utf-8"))
    assert _squad.read_file(tmp_path / name) == QUESTIONS


def test_a_single_row_and_single_answers_are_read() -> None:
    row = {**ROWS[0], "answers": {"text": "Ada", "answer_start": 0}}
    assert qa.read_squad(row, "x") == QUESTIONS[:1]
    assert qa.read_squad([{**ROWS[0], "answers": ["Ada"]}], "x") == QUESTIONS[:1]


def test_ids_are_texts_and_a_file_without_any_gets_numbers() -> None:
    numbers = [{**row, "id": i} for i, row in enumerate(ROWS)]
    without = [{k: v for k, v in row.items() if k != "id"} for row in ROWS]
    for rows in (numbers, without):
        assert [q["id"] for q in qa.read_squad(rows, "x")] == ["0", "1", "2"]
    with pytest.raises(InputError, match="x entry 2: id is NoneType"):
        qa.read_squad([ROWS[0], without[1]], "x")
    with pytest.raises(InputError, match="1 ids name several questions, the first is '1'"):
        qa.read_squad([{**ROWS[0], "id": 1}, {**ROWS[1], "id": "1"}], "x")


UNANSWERABLE: dict[str, dict[str, Any]] = {
    "v2": {"is_impossible": True, "answers": {"text": [], "answer_start": []}},
    "v2 with what would fit": {"is_impossible": True, "answers": {"text": ["Ada"], "answer_start": [0]}},
    "no answers": {"answers": {"text": [], "answer_start": []}},
    "an empty text": {"answers": {"text": [""], "answer_start": [-1]}},
}


@pytest.mark.parametrize("case", UNANSWERABLE)
@pytest.mark.parametrize("form", [list, nested, columns])
def test_unanswerable_questions_are_left_out_and_counted(
    case: str, form: Callable[[list[dict[str, Any]]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "is_impossible": False} for row in ROWS]
    rows[1] = {**rows[1], **UNANSWERABLE[case]}
    with caplog.at_level(logging.INFO, "pipeline"):
        found = qa.read_squad(form(rows), f"{case} {form.__name__}")
    assert [q["id"] for q in found] == ["a", "c"]
    assert "1 of 3 questions have no answer (SQuAD v2) and are left out" in caplog.text


def test_a_file_without_any_answer_says_so() -> None:
    with pytest.raises(InputError, match="x has no questions with an answer, the first of 3 without one is 'a'"):
        qa.read_squad([{**row, "is_impossible": True} for row in ROWS], "x")


def with_answer(text: Any, start: Any) -> list[dict[str, Any]]:
    return [{**ROWS[0], "answers": {"text": [text], "answer_start": [start]}}, *ROWS[1:]]


@pytest.mark.parametrize("start", [1, 999, -3])
def test_a_wrong_answer_start_of_an_answer_that_stands_once_loses_nothing(
    start: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pipeline"):
        assert qa.read_squad(with_answer("Ada", start), f"start {start}") == QUESTIONS
    assert "1 answers stand elsewhere than answer_start says, but once in their context" in caplog.text


@pytest.mark.parametrize(
    ("text", "start", "said"),
    [
        ("1874", 0, r"x: question 'a': the answer '1874' is not at its answer_start 0 \(there is 'Ada '\).* 2 times"),
        ("1874", -1, "2 times"),
        ("Eve", 0, "the answer 'Eve' is nowhere in its context"),
        ("ada", 0, "the answer 'ada' is nowhere in its context"),
        ("Ada", "0", r"answer_start is '0' \(str\), not a whole number"),
        ("Ada", 0.0, r"answer_start is 0\.0 \(float\)"),
        ("Ada", True, r"answer_start is True \(bool\)"),
        (7, 0, "answers of question 'a' is int, not a string"),
        (" ", 0, "answers of question 'a' is empty"),
        ("\ud83d", 0, r"answers of question 'a' is damaged: character 0 is U\+D83D, a lone surrogate"),
    ],
)
def test_answers_that_mean_nothing_are_named(text: Any, start: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        qa.read_squad(with_answer(text, start), "x")


OTHER_FORMS: dict[str, tuple[Any, str]] = {
    "no paragraphs": ({"data": [{"title": "t"}]}, "entry 1 has keys title; no question, context, answers"),
    "paragraphs of another type": ({"data": [{"paragraphs": {}}]}, "entry 1 has paragraphs of type dict"),
    "a paragraph that is a list": ({"data": [{"paragraphs": [[]]}]}, "entry 1, paragraphs 1 has list"),
    "no context": ({"data": [{"paragraphs": [{"qas": [{"id": "1", "question": "q", "answers": []}]}]}]}, "no context"),
    "no answers": (
        [{"id": "1", "question": "q", "context": "c"}],
        "entry 1 has keys id, question, context; no answers",
    ),
    "splits": ({"train": ROWS}, "entry 1 has keys train"),
    "numbers": ([1, 2], "entry 1 has int"),
    "lists": ([["a", "b"]], "entry 1 has list"),
    "null": (None, "entry 1 has NoneType"),
    "an empty object": ({}, "keys none"),
    "unequal columns": (
        {**columns(), "question": ["Who?"]},
        r"columns have unequal lengths \(id 3, context 3, question 1",
    ),
    "unequal answers": (
        [{**ROWS[1], "answers": {"text": ["1874"], "answer_start": [24, 33]}}],
        "1 texts and 2 answer_start",
    ),
    "answers of another type": ([{**ROWS[0], "answers": "Ada"}], "answers of question 'a' is str, not a list"),
    "null answers": ([{**ROWS[0], "answers": None}], "answers of question 'a' is NoneType"),
    "a null text": (
        [{**ROWS[0], "answers": {"text": [None], "answer_start": [0]}}],
        "answers of question 'a' is NoneType",
    ),
    "is_impossible as text": ([{**ROWS[0], "is_impossible": "false"}], "is_impossible of question 'a' is 'false'"),
    "NaN": ([{**ROWS[0], "question": float("nan")}], "question of question 'a' is float, not a string"),
    "an empty context": ([{**ROWS[0], "context": ""}], "context of question 'a' is empty"),
    "half a character": ([{**ROWS[0], "question": "q\udc00"}], r"question of question 'a' .* character 1 is U\+DC00"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_FORMS)
def test_what_is_not_squad_is_told_by_what_was_found(case: str, tmp_path: Path) -> None:
    document, said = OTHER_FORMS[case]
    (tmp_path / "data.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=rf"data\.json.*{said}") as caught:
        _squad.read_file(tmp_path / "data.json")
    assert "Error(" not in str(caught.value)


JSON_FAULTS: dict[str, tuple[str, str]] = {
    "cut": (FORMS["SQuAD"][:100], "data.json is not JSON: "),
    "a cut line": (FORMS["lines"][:-20], r"data.json line 3: expected one JSON object per line: "),
    "a line of something else": (
        FORMS["lines"] + "that is all\n",
        "data.json line 4: expected one JSON object per line",
    ),
    "a list among lines": (FORMS["lines"] + "[1]\n", "line 4 has list"),
    "a key twice": ('[{"id": "1", "id": "2"}]', "the key 'id' stands twice in one object"),
    "nested without end": ("[" * 100_000, "nested too deeply"),
    "a number without end": ('{"id": ' + "1" * 5000 + "}", "data.json is not JSON"),
    "text": ("Who built the bridge?", "data.json is not JSON"),
}


@pytest.mark.parametrize("case", JSON_FAULTS)
def test_what_is_not_json_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    text, said = JSON_FAULTS[case]
    (tmp_path / "data.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        _squad.read_file(tmp_path / "data.json")


def test_a_table_is_no_squad_file(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("id,question\n1,who\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"q\.csv is a table; questions come as JSON"):
        _squad.read_file(tmp_path / "q.csv")


# --- labelled text ---

TABLE = [
    {"text": 'say "hi", then', "label": "A"},
    {"text": "line\u2028one", "label": "B"},
    {"text": "é", "label": "A"},
]
CSV = 'text,label\n"say ""hi"", then",A\nline\u2028one,B\né,A\n'
TSV = 'text\tlabel\nsay "hi", then\tA\nline\u2028one\tB\né\tA\n'
TABLES: dict[str, tuple[str, str]] = {
    "CSV": ("t.csv", CSV),
    "CSV of Windows": ("t.CSV", "\ufeff" + CSV.replace("\n", "\r\n")),
    "CSV in another order": ("t.csv", 'idx,Label, Text \n0,A,"say ""hi"", then"\n\n1,B,line\u2028one\n2,A,é\n'),
    "TSV": ("t.tsv", TSV),
    "TSV of Windows": ("t.tsv", "\ufeff" + TSV.replace("\n", "\r\n")),
    "TSV of an old Mac": ("t.tsv", TSV.replace("\n", "\r")),
    "TSV without a header": ("t.txt", TSV.partition("\n")[2]),
    "TSV of GLUE": ("t.tsv", 'index\tsentence\tlabel\n0\tsay "hi", then\tA\n1\tline\u2028one\tB\n2\té\tA\n'),
    "JSON": ("t.json", json.dumps(TABLE, indent=1)),
    "JSON lines": ("t.jsonl", "\n".join(map(dumps, TABLE))),
    "JSON lines by another name": ("t.txt", "\n".join(map(dumps, TABLE))),
    "JSON lines of sentences": (
        "t.ndjson", "\n".join(dumps({"sentence": r["text"],
        "label": r["label"]}) for r in TABLE),
    ),
    "columns": ("t.json", dumps({key: [r[key] for r in TABLE] for key in ("text", "label")})),
    "data": ("t.json", "\ufeff" + dumps({"data": TABLE})),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_every_form_of_labelled_text_gives_the_same_rows(case: str, tmp_path: Path) -> None:
    name, content = TABLES[case]
    (tmp_path / name).write_bytes(content.encode("utf-8"))
    assert _tables.read_table(tmp_path / name) == TABLE


def test_labels_are_not_needed(tmp_path: Path) -> None:
    for name, content in {"t.csv": "text\none, two\n", "t.txt": "first\nsecond\n", "t.jsonl": '{"text": "a"}'}.items():
        (tmp_path / name).write_text(content.replace(", two", ""), encoding="utf-8")
        assert {row["label"] for row in _tables.read_table(tmp_path / name)} == {None}


TABLE_FAULTS: dict[str, tuple[str, str, str]] = {
    "CSV without a header": ("t.csv", "good,A\nbad,B\n", r"first line must name one column text .* it names good \| A"),
    "semicolons": ("t.csv", "text;label\ngood;A\n", "it names text;label, with commas between them"),
    "commas in TSV": ("t.tsv", "text,label\ngood,A\n", "it names text,label, with tabs between them"),
    "a header without a text": ("t.tsv", "review\tlabel\ngood\tA\n", r"it names review \| label"),
    "a column twice": ("t.csv", "text,text,label\na,b,A\n", r"it names text \| text \| label"),
    "an open quote": ("t.csv", 'text,label\n"good,A\nbad,B\n', r"t\.csv line 3 is not CSV: unexpected end of data"),
    "a comma in a text": (
        "t.csv", "text,label\nwell, good,A\n",
        "line 2 has 3 columns with commas between them, expected 2",
    ),
    "a tab in a text": ("t.tsv", "good\tA\nwell\tgood\tA\n", "line 2 has 3 columns with tabs between them, expected 2"),
    "CoLA": ("t.tsv", "gj04\t1\t\tThe sailors rode.\n", "line 1 has 4 columns"),
    "no text in a row": ("t.csv", "label,text\nA\n", "line 2 has 1 columns"),
    "an empty text": ("t.csv", 'text,label\n"",A\n', "line 2: text is empty"),
    "a huge field": ("t.csv", "text,label\n" + "x" * 200_000 + ",A\n", r"field larger than field limit.*JSON lines"),
    "only a header": ("t.csv", "text,label\n", "has no rows"),
    "only commas": ("t.csv", ",,\n", "has no rows"),
    "an empty list": ("t.json", "[]", "has no rows"),
    "no text": (
        "t.jsonl", '{"text": "a"}\n{"txt": "b"}\n',
        r'line 2: expected \{"text": …, "label": …\}, found keys txt',
    ),
    "half a character": (
        "t.jsonl", '{"text": "a"}\n{"text": "b \\ud83d"}\n',
        r"line 2: text is damaged: character 2 is U\+D83D",
    ),
    "a list of lists": ("t.json", '[["a", 1]]', "entry 1: expected .* found list"),
    "a nested text": ("t.jsonl", '{"text": ["a", ["b"]]}\n{"text": "c"}\n', "line 1: text is list"),
    "NaN": ("t.jsonl", '{"text": NaN}\n{"text": "c"}\n', "line 1: text is float"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE_FAULTS)
def test_tables_of_another_form_are_named_with_their_line(case: str, tmp_path: Path) -> None:
    name, content, said = TABLE_FAULTS[case]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        _tables.read_table(tmp_path / name)


# --- any file ---

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
TEXT = FORMS["rows"].encode("utf-8")
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b" \r\n\t\n", "is empty"),
    "only a mark": (b"\xef\xbb\xbf", "is empty"),
    "Git LFS": (POINTER, "is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    "gzip": (gzip.compress(TEXT), "is gzip-compressed: unpack it"),
    "bzip2": (bz2.compress(TEXT), "is bzip2-compressed"),
    "xz": (lzma.compress(TEXT), "is xz-compressed"),
    "ZIP": (b"PK\x03\x04rest", "is a ZIP archive"),
    "Parquet": (b"PAR1rest", "is a Parquet file: save it as JSON lines"),
    "Arrow": (b"ARROW1\0\0", "is an Arrow file"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "is UTF-16; convert it to UTF-8"),
    "UTF-16 BE": (b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), "is UTF-16; convert it to UTF-8"),
    "UTF-16 without a mark": (
        b'{"a": 1}'.decode().encode("utf-16-le"),
        "is UTF-16 without a byte order mark, or not text",
    ),
    "UTF-32": (TEXT.decode().encode("utf-32"), "is UTF-32; convert"),
    "Latin-1": (b"one\ncaf\xe9\n", "cannot be read as UTF-8 text: byte 0xe9 in line 2"),
    "a pickle": (pickle.dumps(ROWS), "cannot be read as UTF-8 text|or not text at all"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("read", [_squad.read_file, _tables.read_table])
@pytest.mark.parametrize("suffix", ["json", "jsonl", "tsv", "csv"])
def test_a_file_that_is_no_text_is_told_as_what_it_is(
    case: str, read: Callable[[Path], Any], suffix: str, tmp_path: Path
) -> None:
    content, said = FILES[case]
    (tmp_path / f"data.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"data .*data\.{suffix} .*({said})"):
        read(tmp_path / f"data.{suffix}")


def test_a_folder_is_no_file_and_says_what_it_holds(tmp_path: Path) -> None:
    for name in (".DS_Store", "._train.json", "Thumbs.db", "train.json", "dev.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"is a folder where a file is expected; it holds dev\.json, train\.json\."):
        _squad.read_file(tmp_path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("/no/such", "^DATA=/no/such: there is no such file or folder.$"),
        (
            "rajpurkar/squad",
            "there is no such file or folder. Data sets are not downloaded from the hub here: save one",
        ),
        ("~nobody-of-this-name/data", "DATA='~nobody-of-this-name/data' cannot be read: "),
        ("a\0b", r"DATA='a\\x00b' cannot be read: embedded null byte"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("/dev/null", "DATA=/dev/null is neither a file nor a folder"),
    ],
)
def test_data_that_cannot_be_found_is_told(data: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _files.located(data)


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="loop' cannot be read: Too many levels of symbolic links"):
        _files.located(str(tmp_path / "loop"))


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.model import samples
    from pipeline.recipe import Recipe

    path = tiny.squad(tmp_path / "squad.json")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"squad\.json cannot be read: Permission denied"):
        _squad.read_file(path)
    with pytest.raises(InputError, match=r"data .*squad\.json cannot be read: Permission denied"):
        samples.data_digest(Recipe.load("bert", overrides={"data": str(path)}))


def test_the_digest_of_a_folder_sees_linked_folders_and_ends(tmp_path: Path) -> None:
    from pipeline.files import digest_path

    real, data = tmp_path / "elsewhere", tmp_path / "data"
    for folder in (real, data):
        folder.mkdir()
    (data / "own.txt").write_text("a", encoding="utf-8")
    alone = digest_path(data)
    (data / "images").symlink_to(real)
    (real / "back").symlink_to(data)
    (real / "nowhere").symlink_to(real / "nowhere")
    assert digest_path(data) == alone, "links without files change nothing"
    (real / "x.png").write_bytes(b"1")
    first = digest_path(data)
    (real / "x.png").write_bytes(b"2")
    assert len({alone, first, digest_path(data)}) == 3
    (data / b"\xff\n".decode("utf-8", "surrogateescape")).write_bytes(b"a name of any bytes")
    assert digest_path(data) != first
