"""Own prompts: what a file may hold, and the sentence for what it may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.prompts import read_prompts


def write(tmp_path: Path, *rows: object, name: str = "p.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), encoding="utf-8")
    return path


def test_jsonl(tmp_path: Path) -> None:
    verify = {"verifier": "numeric", "answer": "7"}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    path = write(
        tmp_path,
        {"id": "one", "prompt": "3 + 4?", "system": "Brief.", "verify": verify, "tags": {"topic": "sum"}},
        "",
        {"messages": turns, "reference": "d"},
    )
    first, second = read_prompts(path)
    assert first.messages == ({"role": "system", "content": "Brief."}, {"role": "user", "content": "3 + 4?"})
    assert (first.name, first.reference, first.tags) == ("one", {"verify": verify}, {"topic": "sum"})
    assert (second.name, second.reference) == ("3", {"reference": "d"})
    assert list(second.messages) == turns
    assert len(read_prompts(path, 1)) == 1


def test_csv_holds_objects_as_json(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        '\ufeffid,prompt,verify,tags\na,"3 + 4,\nplease","{""verifier"": ""numeric"", ""answer"": ""7""}",\nb,x,,\n'
    )
    first, second = read_prompts(path)
    assert first.messages[0]["content"] == "3 + 4,\nplease"
    assert first.reference == {"verify": {"verifier": "numeric", "answer": "7"}}
    assert (second.name, second.reference, second.tags) == ("b", None, {})


def test_the_examples_are_read() -> None:
    assert all(p.reference for p in read_prompts(Path(__file__).parent.parent / "examples" / "prompts.jsonl"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (['{"prompt": "a"}', "{"], "line 2: not JSON"),
        (["[1]"], "line 1: a prompt is an object"),
        ([{"promt": "a"}], "line 1: unknown field 'promt'; allowed: id, prompt,"),
        ([{"prompt": "a", "messages": []}], "line 1: give one of prompt, messages and turns"),
        ([{"id": "x"}], "line 1: give one of prompt, messages and turns"),
        ([{"prompt": " "}], "line 1: field prompt must be a text that is not empty"),
        ([{"prompt": 3}], "line 1: field prompt must be a text"),
        ([{"messages": [{"role": "assistant", "content": "a"}]}], "line 1: field messages must be a list of role and"),
        ([{"messages": "a"}], "line 1: field messages must be"),
        ([{"messages": [{"content": "a"}]}], "line 1: field messages must be"),
        ([{"id": "x", "prompt": "a"}, {"id": "x", "prompt": "b"}], "line 2: the id 'x' stands on line 1 already"),
        ([{"prompt": "a", "tags": ["x"]}], "line 1: field tags must be an object"),
        ([{"prompt": "a", "verify": {"verifier": "magic"}}], "line 1: field verify:"),
        ([{"prompt": "a", "verify": "exact"}], "line 1: field verify must be an object"),
        ([], "there is no prompt in it"),
    ],
)
def test_a_broken_file_is_told_by_line_and_field(tmp_path: Path, rows: list[object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_prompts(write(tmp_path, *rows))
    assert said in str(caught.value)
    assert caught.value.code == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "Gr\xfcn"}')
    with pytest.raises(UserError, match=r"line 2: not UTF-8 text"):
        read_prompts(tmp_path / "latin.jsonl")
    with pytest.raises(UserError, match=r"line 2: .*JSON"):
        read_prompts(write(tmp_path, "prompt,tags", "a,{", name="p.csv"))
    with pytest.raises(UserError, match="line 2: it has more cells"):
        read_prompts(write(tmp_path, "id,prompt", "a,b,c", name="q.csv"))
