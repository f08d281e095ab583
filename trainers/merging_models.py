"""The models of a merge: where they lie, and how the ledger remembers what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.models import embedded
from evalkit.models.load import load_model
from evalkit.models.weights import find_weights
from evalkit.plan import ModelPlan

if TYPE_CHECKING:
    from evalkit.store.ledger import Ledger
    from trainers.merging import Merged


@dataclass(frozen=True)
class Source:
    """A model that goes into a merge.

    Attributes:
        reference: What the YAML calls it.
        model: PROVIDER/NAME, as a plan calls it.
        folder: Where its files lie.
        revision: Which weights these are: a content hash, or the hub's commit.
        model_id: In the ledger, where it was named by its label.
    """

    reference: str
    model: str
    folder: Path
    revision: str
    model_id: int | None = None


def find_sources(references: Sequence[str], ledger: Ledger | None) -> tuple[Source, ...]:
    """Finds each model: a folder, embedded/NAME, a label in the ledger, or a hub id (with @REVISION), in this order.

    Raises:
        UserError: One is none of these, or is not on this machine.
    """
    return tuple(_find(reference, ledger) for reference in references)


def _find(reference: str, ledger: Ledger | None) -> Source:
    name = reference.removeprefix("hf/")
    if Path(name).expanduser().is_dir():
        if (Path(name).expanduser() / "adapter_config.json").exists():  # `Checkpoint` says what to do with it
            return Source(reference, f"hf/{name}", Path(name).expanduser(), "")
        folder, revision = find_weights(name, None)
        return Source(reference, f"hf/{name}", folder, revision)
    if name.startswith("embedded/"):
        bare = name.removeprefix("embedded/")
        embedded.find(bare)
        return Source(reference, name, embedded.folder(bare), embedded.revision(bare))
    if ledger is not None and (found := _by_label(reference, ledger)) is not None:
        return found
    bare, _, revision = name.partition("@")
    if bare.count("/") != 1 or name.endswith(".gguf"):
        raise UserError(
            f"{reference}: is no folder, no label of a model in the ledger and no hub id (OWNER/NAME)",
            code=2,
        )
    folder, commit = find_weights(bare, revision or None)
    return Source(reference, f"hf/{bare}", folder, commit)


def _by_label(label: str, ledger: Ledger) -> Source | None:
    """Finds a model of the ledger whose weights are on this machine."""
    import sqlalchemy as sa

    from evalkit.store.schema import Model, TrainingRun

    query = sa.select(Model.id, Model.provider, Model.name, Model.revision).where(Model.label == label)
    with ledger.engine.connect() as connection:
        models = connection.execute(query.order_by(Model.id)).all()
        # By revision: the weights may have been evaluated with other settings than they were registered with.
        places = sa.select(TrainingRun.checkpoint).join(Model, Model.id == TrainingRun.model_id)
        places = places.where(Model.revision.in_({m.revision for m in models}), TrainingRun.checkpoint.is_not(None))
        checkpoint = connection.scalar(places.order_by(TrainingRun.id.desc()).limit(1))
    if not models:
        return None
    if len({m.revision for m in models}) > 1:
        raise UserError(f"{label}: several models of the ledger have this label; name a folder instead", code=2)
    model = models[0]
    if model.provider == "embedded":
        folder, revision = embedded.folder(model.name), embedded.revision(model.name)
        return Source(label, f"embedded/{model.name}", folder, revision, model.id)
    if checkpoint is not None:
        folder = Path(checkpoint)
        if not folder.is_dir():
            raise UserError(f"{label}: its checkpoint {folder} is not there any more; name the folder where it is now")
        revision = find_weights(str(folder), None)[1]
        if revision != model.revision:
            raise UserError(f"{label}: the files in {folder} have changed since the ledger got to know this model")
        return Source(label, f"hf/{folder}", folder, revision, model.id)
    if model.provider in ("hf", "vllm") and "/" in model.name:
        folder, revision = find_weights(model.name, model.revision)
        return Source(label, f"hf/{model.name}", folder, revision, model.id)
    raise UserError(f"{label}: the ledger does not know where this model's files are; name the folder instead", code=2)


def register_merge(ledger: Ledger, merged: Merged, label: str = "") -> int:
    """Adds a merge to the ledger as a model with its parents, and how it was made as a finished training run.

    Args:
        label: What boards call it; by default the folder's name.

    Returns:
        The model's id.
    """
    from evalkit.store.write_training import add_merge, add_parents

    parents = [
        source.model_id if source.model_id is not None else _known_or_new(ledger, source) for source in merged.sources
    ]
    model_id = ledger.add_models([_settings(f"hf/{merged.folder}", label or merged.folder.name)])[0]
    add_parents(ledger, model_id, parents, "merged_from")
    config: dict[str, Any] = {
        "merge": merged.config.model_dump(mode="json", exclude_defaults=True),
        "seed": merged.seed,
    }
    add_merge(ledger, model_id, parents[0], config, str(merged.folder.resolve()))
    return model_id


def _known_or_new(ledger: Ledger, source: Source) -> int:
    """Returns the first model with these weights, whatever its sampling; adds one where there is none."""
    import sqlalchemy as sa

    from evalkit.store.schema import Model

    settings = _settings(source.model, source.reference)
    same = (Model.provider == settings.provider, Model.name == settings.name, Model.revision == settings.revision)
    with ledger.engine.connect() as connection:
        known = connection.scalar(sa.select(sa.func.min(Model.id)).where(*same))
    return int(known) if known is not None else ledger.add_models([settings])[0]


def _settings(model: str, label: str) -> Any:
    return load_model(ModelPlan(model=model, name=label)).settings
