"""Criteria: those that come along, files of one's own, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from judges.criteria import Criterion, criterion_sets, load_criteria

STANDARD = [
    "overall",
    "helpfulness",
    "harmlessness",
    "honesty",
    "correctness",
    "instruction_following",
    "relevance",
    "coherence",
    "fluency",
    "safety",
]


def test_the_standard_criteria_and_a_constitution_come_along() -> None:
    assert [criterion.name for criterion in criterion_sets()["standard"]] == STANDARD
    assert load_criteria(STANDARD) == load_criteria(["standard"])
    assert len(load_criteria(["constitution"])) == 8
    every = load_criteria(["standard", "constitution"])
    assert len({criterion.name for criterion in every}) == len(every) == 18
    assert all(len(criterion.description) > 40 for criterion in every)


def test_names_files_and_mappings_mix(tmp_path: Path) -> None:
    one, more = tmp_path / "one.yaml", tmp_path / "more.yml"
    one.write_text("name: brevity\ndescription: >\n  Nothing could be left out.\nlevels:\n  1: long\n  0: endless\n")
    more.write_text("- name: a\n  description: A.\n- name: b\n  description: B.\n  scale: [0, 100]\n")
    given = ["fluency", str(one), str(more), {"name": "c", "description": " C. "}, Criterion("d", "D.")]
    found = load_criteria(given)
    assert [criterion.name for criterion in found] == ["fluency", "brevity", "a", "b", "c", "d"]
    assert found[1] == Criterion("brevity", "Nothing could be left out.", ((0, "endless"), (1, "long")))
    assert found[3] == Criterion("b", "B.", (), (0.0, 100.0))
    assert found[4] == Criterion("c", "C.")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("fluent", "no criterion 'fluent'. Did you mean 'fluency'? There are: "),
        ("zzz", "no criterion 'zzz'. There are: "),
        ({"name": "x"}, "criterion 2: description: must be a text that is not empty"),
        ({"name": " ", "description": "d"}, "criterion 2: name: must be a text that is not empty"),
        ({"name": 5, "description": "d"}, "criterion 2: name: must be a text that is not empty"),
        ({"name": "a\nb", "description": "d"}, r"criterion 2: name: 'a\nb' must be up to 60 letters"),
        ({"name": "x", "descripton": "d"}, "criterion 2: unknown key 'descripton'; allowed: name, description, levels"),
        ({"name": "x", "description": "d", "levels": ["a"]}, "criterion 2: levels: must be two or more lines"),
        ({"name": "x", "description": "d", "levels": {1: "a"}}, "criterion 2: levels: must be two or more lines"),
        ({"name": "x", "description": "d", "levels": {"1": "a", 2: "b"}}, "criterion 2: levels: must be two or more"),
        ({"name": "x", "description": "d", "scale": 5}, "criterion 2: scale: must be the lowest and the highest score"),
        ({"name": "x", "description": "d", "scale": [2, 1]}, "criterion 2: scale: must be the lowest and the highest"),
        ({"name": "x", "description": "d", "scale": [1, float("inf")]}, "criterion 2: scale: must be the lowest"),
        ({"name": "overall", "description": "d"}, "two criteria have the name 'overall'"),
        ("/none/there.yaml", "/none/there.yaml: the criteria cannot be read: No such file or directory"),
    ],
)
def test_wrong_criteria_are_one_sentence(given: str | Mapping[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_criteria(["overall", given])
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"- name: a\n  description: A.\n- name: b\n", "criterion 2: description: must be a text"),
        (b"[]", "there is no criterion in it"),
        (b"", "a criterion is a mapping with the keys name and description"),
        (b"- just a sentence", "criterion 1: a criterion is a mapping"),
        (b"name: [", "not valid YAML"),
        (b"name: Gr\xfcn", "not UTF-8 text (byte 8)"),
        (b"!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_wrong_criteria_files_are_named(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError) as caught:
        load_criteria([str(path)])
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)
