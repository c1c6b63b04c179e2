"""Labelled images: a folder per class as torchvision reads it, tables, and what is wrong with either, named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers import tiny
from pipeline.errors import InputError
from pipeline.tasks import _labelled_images


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"never opened here")
    return path


def read(data: Path) -> list[tuple[Path, object]]:
    return [(one.path, one.label) for one in _labelled_images.find(data)]


def test_a_folder_per_class_gives_what_torchvision_gives(tmp_path: Path) -> None:
    """Its ImageFolder takes the files of folders within, and no others than images; here litter is left out too."""
    expected = [
        (image(tmp_path / "cat" / "2024" / "b.PNG"), "cat"),
        (image(tmp_path / "cat" / "a.jpg"), "cat"),
        (image(tmp_path / "dog" / "a.webp"), "dog"),
    ]
    for litter in ("readme.txt", "cat/._a.jpg", "cat/Thumbs.db", "cat/notes.txt", "outside.png"):
        image(tmp_path / litter)
    assert sorted(read(tmp_path)) == sorted(expected)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "image,label\na.png,cat\nin/b.png,dog\n"),
        ("t.csv", 'id,file_name,label\n1,"a.png",cat\n2,in/b.png, dog\n'),
        ("t.tsv", "label\timage\ncat\ta.png\ndog\tin/b.png\n"),
        ("t.jsonl", '{"image": "a.png", "label": "cat"}\n{"file_name": "in/b.png", "label": "dog"}\n'),
        ("t.json", '[{"image": "a.png", "label": "cat"}, {"image": "in/b.png", "label": "dog"}]'),
    ],
    ids=["csv", "csv of a hub data set", "tsv", "json lines", "json"],
)
def test_a_table_names_images_beside_it(name: str, content: str, tmp_path: Path) -> None:
    paths = image(tmp_path / "a.png"), image(tmp_path / "in" / "b.png")
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read(tmp_path / name) == list(zip(paths, ("cat", "dog"), strict=True))
    assert [one.place for one in _labelled_images.find(tmp_path / name)][1] in ("line 3", "line 2", "entry 2")


def test_a_path_may_be_absolute_and_a_label_an_index(tmp_path: Path) -> None:
    path = image(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "t.jsonl").write_text(f'{{"image": "{path}", "label": 1}}\n', encoding="utf-8")
    assert read(tmp_path / "t.jsonl") == [(path, 1)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "t.csv",
            "path,label\na.png,cat\n",
            "t.csv: its first line must name the columns image (or file_name)",
        ),
        ("t.csv", "a.png,cat\n", "t.csv: its first line must name the columns"),
        ("t.csv", "image,file_name,label\na.png,a.png,cat\n", "t.csv: its first line must name the columns"),
        ("t.csv", "image,label,label\na.png,cat,cat\n", "t.csv: its first line must name the columns"),
        ("t.tsv", "image,label\na.png,cat\n", "it names image,label"),
        ("t.csv", "image,label\na.png\n", "t.csv line 2 has 1 columns, expected 2: image, label"),
        ("t.csv", "image,label\na.png,cat\nb.png,cat\n", "t.csv line 3: there is no image"),
        ("t.csv", "image,label\n,cat\n", "t.csv line 2: image is empty"),
        ("t.csv", "image,label\n", "t.csv has no rows"),
        ("t.csv", "", "t.csv is empty"),
        ("t.jsonl", '{"label": 1}\n', 't.jsonl entry 1: expected {"image": "…", "label": …}, found keys label'),
        ("t.jsonl", '{"image": "a.png"}\n', "found keys image"),
        ("t.jsonl", '{"image": 7, "label": 1}\n', "t.jsonl entry 1: image is int, not a string"),
        ("t.jsonl", '{"image": "a.png", "label": 1}\n[1]\n', "t.jsonl line 2: expected"),
        ("t.jsonl", '{"image": "a.png"\n', "t.jsonl line 1"),
    ],
)
def test_tables_of_no_use_are_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(said)):
        _labelled_images.find(tmp_path / name)


def test_folders_of_no_use_are_named(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"has no folders; expected a folder per class.* it holds a\.png"):
        _labelled_images.find(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match=r"cat has no images \(\.png, .*\); it is empty\. Remove a class"):
        _labelled_images.find(tmp_path)


def test_links_are_followed_and_do_not_lead_in_circles(tmp_path: Path) -> None:
    outside = image(tmp_path / "elsewhere" / "b.png")
    image(tmp_path / "data" / "cat" / "a.png")
    (tmp_path / "data" / "cat" / "more").symlink_to(outside.parent)
    assert [path.name for path, _ in read(tmp_path / "data")] == ["a.png", "b.png"]
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "data" / "cat")
    with pytest.raises(InputError, match=r"up is a link to a folder that holds it, .*cat; remove it"):
        read(tmp_path / "data")


def test_the_helpers_photos_are_all_found(tmp_path: Path) -> None:
    found = read(tiny.photos(tmp_path, count=8))
    assert [label for _, label in found] == [name for name in sorted(tiny.CLASSES) for _ in range(2)]
