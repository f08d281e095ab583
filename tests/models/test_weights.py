"""Finding weights: folders, GGUF files, the hub; and which weights they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.models.weights import find_weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name, text in {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "tokens"}.items():
        (path / name).write_text(text)
    return path


def test_a_folders_revision_is_its_content(folder: Path, cache: Path) -> None:
    path, first = find_weights(str(folder), None)
    assert path == folder
    assert len(first) == 64
    moved = folder.rename(folder.with_name("elsewhere"))
    assert find_weights(str(moved), None)[1] == first, "the path is no part of it"
    (moved / "notes.md").write_text("nothing that answers depend on")
    assert find_weights(str(moved), None)[1] == first
    (moved / "tokenizer.json").write_text("tokenS")
    assert find_weights(str(moved), None)[1] != first
    assert (cache / "hashes.json").exists()


def test_a_torn_memory_of_hashes_is_read_past(folder: Path, cache: Path) -> None:
    first = find_weights(str(folder), None)[1]
    for text in ("{", "[]", "\x00"):
        (cache / "hashes.json").write_text(text)
        assert find_weights(str(folder), None)[1] == first


def test_a_cache_that_cannot_be_written_is_no_obstacle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_weights(str(folder), None)[1]
    monkeypatch.setenv("EVALKIT_CACHE", str(folder / "config.json" / "cache"))
    assert find_weights(str(folder), None)[1] == first


def test_a_gguf_file_is_a_model(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    assert find_weights(str(file), None)[0] == file


def test_folders_that_are_no_models(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no \*\.safetensors; other weight formats can run code"):
        find_weights(str(folder), None)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json"):
        find_weights(str(folder), None)
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a folder, a hub id or a \.gguf file"):
        find_weights(str(tmp_path / "weights.bin"), None)


@pytest.mark.parametrize("name", ["./nothing", "a/b/c", "nothing", "../x y/z"])
def test_what_is_neither_folder_nor_hub_id(name: str) -> None:
    with pytest.raises(UserError, match="no such folder, and not a hub id"):
        find_weights(name, None)


def test_a_hub_that_cannot_be_reached_is_one_sentence() -> None:
    with pytest.raises(UserError, match="there is no folder owner/name, and the hub cannot be reached"):
        find_weights("owner/name", None)
