"""YAML files that people write: read into pydantic models, with errors that name file, line and field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from evalkit.errors import UserError

SHAPES = {
    "model_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of keys",
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
    "path_type": "must be a path",
}
Model = TypeVar("Model", bound=BaseModel)


def read_yaml(
    path: Path, model: type[Model], what: str, *, empty: str, context: Mapping[str, Any] | None = None
) -> Model:
    """Reads a file and checks it.

    Args:
        path: A mapping in YAML.
        model: What it must be.
        what: The file in words, as "the plan".
        empty: Said of a file that is not a mapping.
        context: For the model's validators.

    Raises:
        UserError: The file cannot be read, is not YAML, or a field is unknown or wrong; names file, line and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read: {error.strerror}", code=2) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {what} is not UTF-8 text (byte {error.start})", code=2) from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path} line {line}: not valid YAML: {error.problem}", code=2) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}", code=2) from error
    if tree is None or not isinstance(data, dict):
        raise UserError(f"{path}: {empty}", code=2)
    _refuse_repeated_keys(path, tree)
    try:
        return model.model_validate(data, context=dict(context or {}))
    except ValidationError as error:
        raise UserError("\n".join(_sentences(path, tree, error, model, what)), code=2) from error


def _refuse_repeated_keys(path: Path, node: yaml.Node, walked: set[int] | None = None) -> None:
    """YAML itself keeps the last of two equal keys and says nothing."""
    walked = set() if walked is None else walked
    if id(node) in walked:  # an alias
        return
    walked.add(id(node))
    children = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
            if key.value in lines:
                line, first = key.start_mark.line + 1, lines[key.value]
                raise UserError(f"{path} line {line}: {key.value}: stands on line {first} already", code=2)
            lines[key.value] = key.start_mark.line + 1
        children = [value for _, value in node.value]
    for child in children:
        _refuse_repeated_keys(path, child, walked)


def _sentences(path: Path, tree: yaml.Node, error: ValidationError, model: type[BaseModel], what: str) -> list[str]:
    said: dict[str, None] = {}
    details = error.errors()
    for detail in details:
        inner = [d for d in details if d is not detail and d["loc"][: len(detail["loc"])] == detail["loc"]]
        if detail["type"] == "too_short" and inner:
            continue  # the list is short only because its wrong entries were left out
        loc = tuple(p for p in detail["loc"] if not (isinstance(p, str) and re.search(r"[\[\]()]|^(bool|literal)", p)))
        named = re.match(r"Value error, ([a-z]\w*(?:\.\w+)*): ", detail["msg"])
        if named and named[1].partition(".")[0] in model.model_fields and not loc:  # a check of several fields together
            loc = tuple(named[1].split("."))
            detail = {**detail, "msg": detail["msg"][named.end() :], "input": None}
        line = _line(tree, loc)
        field = ".".join(str(p) for p in loc) or what
        kind, message = detail["type"], detail["msg"]
        if kind == "extra_forbidden":
            allowed = _allowed_keys(model, loc[:-1])
            near = difflib.get_close_matches(str(loc[-1]), allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            message = f"unknown key.{hint} Allowed: {', '.join(allowed)}"
        elif kind == "missing":
            message = "this key must be given"
        elif kind in SHAPES:
            message = SHAPES[kind]
        else:
            message = message.removeprefix("Value error, ")
            given = detail.get("input")
            if isinstance(given, str | int | float) and repr(given) not in message:
                message += f", not {given!r}"
        said[f"{path} line {line}: {field}: {message}"] = None
    return list(said)


def _allowed_keys(part: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Returns the keys of the part of a model at `loc`."""
    for name in (p for p in loc if isinstance(p, str) and p in part.model_fields):
        annotation = part.model_fields[name].annotation
        parts = [annotation, *getattr(annotation, "__args__", ())]
        part = next(
            (
                a
                for p in parts
                for a in (p, *getattr(p, "__args__", ()))
                if isinstance(a, type) and issubclass(a, BaseModel)
            ),
            part,
        )
    return list(part.model_fields)


def _line(node: yaml.Node, loc: tuple[Any, ...]) -> int:
    """Returns the line (from 1) of the deepest part of `loc` that the file has."""
    line = node.start_mark.line + 1
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line
