"""Which tasks there are, and how a name becomes lm-eval task objects."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import importlib.util
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from benchmarks import ifeval_data, mirror
from evalkit.errors import UserError

HERE = Path(__file__).parent
# Folders of lm-eval that are read at once; all of them take 13 CPU-seconds, which waits for a name not in these.
FAMILIAR = ("gsm8k", "ifeval", "mmlu/default", "aime", "truthfulqa", "humaneval", "mbpp")
KNOWN = {  # lm-eval's file and our own description
    "gsm8k": ("gsm8k/gsm8k.yaml", "1,319 grade-school word problems"),
    "ifeval": ("ifeval/ifeval.yaml", "540 prompts with instructions that code can verify"),
    "mmlu": ("mmlu/default/_mmlu.yaml", "14,042 multiple-choice questions from 57 subjects"),
    "aime24": ("aime/aime24.yaml", "30 competition problems of 2024"),
    "aime25": ("aime/aime25.yaml", "30 competition problems of 2025"),
    "truthfulqa_gen": ("truthfulqa/truthfulqa_gen.yaml", "817 questions that invite common falsehoods, free answers"),
    "truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1.yaml", "the same, one right choice"),
    "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", "the same, several right choices"),
    "humaneval": ("humaneval/humaneval.yaml", "164 Python functions with tests"),
    "mbpp": ("mbpp/mbpp.yaml", "500 short Python programs with tests"),
}
NEEDS_SANDBOX = "it runs code that the model wrote and needs a sandbox, which evalkit does not have yet"
LOCAL_BUILDERS = ("json", "csv", "parquet", "text")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One benchmark to run.

    Attributes:
        name: Task, group or tag as lm-eval or a YAML file names it, or the path of a YAML file.
        num_fewshot: Examples before the question; None leaves it to the task.
        limit: Documents of each task: a number, or a fraction below 1; None for all.
        chat_template: "auto" applies one where the model has one; true and false win over that.
        fewshot_as_multiturn: Examples as turns of the conversation rather than one text; matters with a chat template.
        generation: Overrides the task's generation_kwargs, in lm-eval's words (max_gen_toks, temperature, until).
    """

    name: str
    num_fewshot: int | None = None
    limit: int | float | None = None
    chat_template: bool | Literal["auto"] = "auto"
    fewshot_as_multiturn: bool = True
    generation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A line of `evalkit tasks`.

    Attributes:
        kind: task, group or tag.
        source: starter, mirror, lm-eval, or the user's folder.
        output_type: generate_until, multiple_choice, loglikelihood; "" for groups and tags.
        obstacle: Why it cannot run here; "" if it can.
    """

    name: str
    kind: str
    source: str
    output_type: str
    description: str
    obstacle: str


@dataclass(slots=True)
class Loaded:
    """Task objects of one spec.

    Attributes:
        tasks: lm-eval task objects by name.
        groups: lm-eval group objects by name.
        sources: Where each task's data comes from, for the ledger.
        skipped: Names that cannot run here, with the reason.
    """

    spec: TaskSpec
    tasks: dict[str, Any]
    groups: dict[str, Any]
    sources: dict[str, str]
    skipped: dict[str, str]


def lm_eval_tasks() -> Path:
    """Returns the folder of lm-eval's own task definitions.

    Raises:
        UserError: lm-eval is not installed.
    """
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise UserError('benchmarks need lm-eval; type: pip install "evalkit[bench]"')
    return Path(spec.origin).parent / "tasks"


def list_tasks(include: Sequence[Path] = ()) -> list[TaskInfo]:
    """Lists what runs without looking through all of lm-eval: the starter suite, the mirror, the user's folders.

    Reads YAML only; imports neither lm-eval nor any task's Python.

    Args:
        include: Folders with the user's own task files.
    """
    rows: dict[str, TaskInfo] = {}
    for source, root in [("starter", HERE / "starter"), ("mirror", HERE / "mirror"), *((str(p), p) for p in include)]:
        for path in sorted(root.rglob("*.yaml")):
            config = read_yaml(path)
            found = list(_describe(config, source))
            rows.update((info.name, info) for info in found)
            tags = config.get("tag") or []
            for tag in [tags] if isinstance(tags, str) else tags:
                if found and tag not in rows:
                    rows[tag] = TaskInfo(tag, "tag", source, "", f"every task tagged {tag}", "")
    folder = lm_eval_tasks()
    for file, about in KNOWN.values():
        for info in _describe(read_yaml(folder / file), "mirror"):
            rows[info.name] = replace(info, description=about)
    rows["truthfulqa"] = TaskInfo("truthfulqa", "tag", "mirror", "", "every task tagged truthfulqa", "")
    return sorted(rows.values(), key=lambda r: (r.source, r.name))


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a task file with its includes; `!function` stays text, nothing of it is imported.

    Raises:
        UserError: It is not YAML, or not a mapping.
    """

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))  # type: ignore[arg-type]
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file: {' '.join(str(error).split())}", code=2) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", code=2) from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: a task file is a mapping with the key task or group", code=2)
    includes = config.pop("include", [])
    merged: dict[str, Any] = {}
    for name in [includes] if isinstance(includes, str) else includes:
        merged.update(read_yaml(path.parent / name))
    return {**merged, **config}


def load(spec: TaskSpec, include: Sequence[Path] = ()) -> Loaded:
    """Builds the lm-eval objects of a spec.

    Args:
        spec: What to run.
        include: Folders with the user's own task files; they win over lm-eval's of the same name.

    Raises:
        UserError: No such task (names near ones), data that cannot be had, or a broken task file.
    """
    familiar = lm_eval_tasks()
    from lm_eval.tasks import TaskManager

    name, folders = spec.name, list(include)
    if name.endswith((".yaml", ".yml")):
        config = read_yaml(Path(name))
        folders.append(Path(name).resolve().parent)
        name = str(config.get("task") if isinstance(config.get("task"), str) else config.get("group"))
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of tasks", code=2)
    own = [HERE / "mirror", HERE / "starter", *folders]
    with _quiet():
        manager = TaskManager(include_path=[*(familiar / f for f in FAMILIAR), *own], include_defaults=False)
        if name not in manager.task_index:
            manager = TaskManager(include_path=own, include_defaults=True)
    index = manager.task_index
    if name not in index:
        near = difflib.get_close_matches(name, list(index), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; type: evalkit tasks"
        raise UserError(f"there is no task {spec.name!r}{hint}", code=2)
    loaded = Loaded(spec, {}, {}, {}, {})
    with _quiet():
        _prepare(index, name, loaded)
        if name in loaded.skipped:
            return loaded
        try:
            with _hub():
                built = manager.load(name)
        except (ConnectionError, OSError) as error:
            raise UserError(_no_data(index, name, error)) from error
        except ImportError as error:
            raise UserError(f"the task {name} needs a package that is not installed: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"the task {name} cannot be built: {type(error).__name__}: {error}") from error
    loaded.tasks, loaded.groups = built["tasks"], built.get("groups", {})
    for task in loaded.tasks.values():
        _configure(task, spec)
    return loaded


def _configure(task: Any, spec: TaskSpec) -> None:
    """Applies a spec as lm-eval's `simple_evaluate` applies its arguments."""
    if task.get_config("output_type") == "generate_until" and spec.generation:
        task.set_config(key="generation_kwargs", value=dict(spec.generation), update=True)
    shots = task.get_config("num_fewshot")
    if spec.num_fewshot is None:
        task.set_config(key="num_fewshot", value=shots or 0)
    elif shots != 0:  # a task that states 0 means it
        task.set_config(key="num_fewshot", value=spec.num_fewshot)


def _prepare(index: dict[str, Any], name: str, loaded: Loaded) -> None:
    """Points the entries that a name stands for to data on this machine, before lm-eval builds them."""
    entry = index.get(name)
    if entry is None:
        return
    config = entry.cfg or {}
    if entry.kind.name == "TAG":
        for child in sorted(entry.tags):
            _prepare(index, child, loaded)
        entry.tags -= loaded.skipped.keys()
        return
    if entry.kind.name == "GROUP":
        listed = config.get("task")
        members = {_member_name(child): child for child in (listed if isinstance(listed, list) else [])}
        for child in members:
            _prepare(index, child, loaded)
        if loaded.skipped.keys() & members.keys():
            kept = [child for name, child in members.items() if name not in loaded.skipped]
            entry.cfg, entry.yaml_path = {**config, "task": kept}, None
        return
    if _needs_sandbox(config):
        loaded.skipped[name] = NEEDS_SANDBOX
        return
    path, path_of_data = entry.yaml_path, str(config.get("dataset_path", ""))
    if path is None:
        return
    if "/ifeval/" in path.as_posix():
        ifeval_data.ensure()
    loaded.sources[name] = path_of_data or path.name
    local = mirror.find(path_of_data, config.get("dataset_name"))
    wanted = mirror.wanted_files(path_of_data, config.get("dataset_name"))
    if local is None and wanted and mirror.folder() is not None and not _hub_answers():
        loaded.skipped[name] = f"{mirror.VARIABLE} has no {' or '.join(wanted.values())}, and the hub cannot be reached"
        return
    if local is None and path_of_data not in LOCAL_BUILDERS:
        return
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        full = load_yaml(path, resolve_func=True)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    if local is not None:
        full["custom_dataset"], loaded.sources[name] = local
    else:
        full["dataset_kwargs"], loaded.sources[name] = _local_files(full.get("dataset_kwargs") or {}, path)
    entry.cfg, entry.yaml_path = full, None


def _member_name(child: str | Mapping[str, Any]) -> str:
    return child if isinstance(child, str) else str(child.get("group") or child.get("task"))


def _local_files(kwargs: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """Reads relative data files as relative to the task file, and hashes them for the ledger."""
    hashes: list[str] = []

    def absolute(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: absolute(v) for k, v in value.items()}
        if isinstance(value, list):
            return [absolute(v) for v in value]
        file = path.parent / str(value)
        if not file.is_file():
            if "://" in str(value) or any(c in str(value) for c in "*?["):
                return value
            raise UserError(f"{path}: field dataset_kwargs.data_files: there is no file {value}", code=2)
        hashes.append(f"{Path(value).name} sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}")
        return str(file.resolve())

    if "data_files" not in kwargs:
        return kwargs, str(path.name)
    return {**kwargs, "data_files": absolute(kwargs["data_files"])}, ", ".join(sorted(set(hashes)))


def _no_data(index: dict[str, Any], name: str, error: Exception) -> str:
    config = (index[name].cfg or {}) if name in index else {}
    data = config.get("dataset_path", "its data set")
    wanted = mirror.wanted_files(str(data), config.get("dataset_name"))
    where = f" that has {', '.join(wanted.values())}" if wanted else " of a mirror that has it"
    first = str(error).split("\n")[0]
    remedy = f"set {mirror.VARIABLE} to a folder{where}"
    return f"the task {name} needs {data} from the hub, which cannot be reached ({first}): {remedy}"


def _describe(config: Mapping[str, Any], source: str) -> Iterator[TaskInfo]:
    metadata = config.get("metadata") if isinstance(config.get("metadata"), dict) else {}
    assert isinstance(metadata, dict)
    about = str(metadata.get("description", ""))
    if "group" in config:
        yield TaskInfo(str(config["group"]), "group", source, "", about, _obstacle(config))
    elif isinstance(config.get("task"), str):
        kind = str(config.get("output_type", "generate_until"))
        yield TaskInfo(config["task"], "task", source, kind, about, _obstacle(config))


def _needs_sandbox(config: Mapping[str, Any]) -> bool:
    metadata = config.get("metadata")
    return bool(config.get("unsafe_code")) or (isinstance(metadata, dict) and metadata.get("requires") == "sandbox")


def _obstacle(config: Mapping[str, Any]) -> str:
    if _needs_sandbox(config):
        return "needs a sandbox"
    path, name = str(config.get("dataset_path", "")), config.get("dataset_name")
    if config.get("group") == "mmlu":
        path, name = "cais/mmlu", "anatomy"
    if mirror.wanted_files(path, name) and mirror.find(path, name) is None:
        return f"no copy in {mirror.VARIABLE}: needs the hub"
    return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Mutes lm-eval's remarks on overridden names and its own defaults; what matters here comes as errors."""
    import datasets

    datasets.disable_progress_bars()
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@functools.cache
def _hub_answers() -> bool:
    from huggingface_hub import constants

    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        return False
    return not constants.HF_HUB_OFFLINE


@contextlib.contextmanager
def _hub() -> Iterator[None]:
    """Turns the hub client's offline mode on where the hub's name does not resolve.

    It would try for half a minute and then say the same; in offline mode it takes what its cache holds.
    """
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    if not _hub_answers():
        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
