"""What a search for slices found, and how it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from evalkit.slices.confirm import Confirmation, Counts
from evalkit.slices.features import About
from evalkit.slices.prompts import YES
from evalkit.store.ledger import Ledger
from evalkit.store.write_slices import SliceRow, write_slices

if TYPE_CHECKING:
    from evalkit.slices.tree import Tree


@dataclass(frozen=True)
class FoundSlice:
    """A group of answers in which a model fails more than elsewhere.

    Attributes:
        slice_id: In the ledger; None while it is not stored.
        name: In words.
        where: Features and their values; empty where `terms` say it.
        terms: Distinctive words of a group of the capability tree.
        about: "prompts", or "answers" where the model's own answers are part of the definition: then another model's
            answers to the same prompts need not belong to it, and the slice is nothing to train on.
        dataset_id: Where all its items lie; None where they lie in several datasets.
        metric: That decides what fails; None where the datasets have different ones.
        discovery: Counts of the half it was found on, flattered by the search.
        held_out: What the other half says.
        stability: Share of resamples of the discovery half in which it is found again.
        examples: Items of the discovery half with failed answers.
        items: Half of each of its items, "train" or "held_out".
        also: Other definitions of nearly the same answers, in words.
        confirmed: Whether its q-value is within the false discovery rate that was asked for, or the user named it.
    """

    slice_id: int | None
    name: str
    where: Mapping[str, str]
    terms: tuple[str, ...]
    about: About
    dataset_id: int | None
    metric: str | None
    discovery: Counts
    held_out: Confirmation
    stability: float
    examples: tuple[int, ...]
    items: Mapping[int, str]
    also: tuple[str, ...]
    confirmed: bool


@dataclass(frozen=True)
class Discovery:
    """A search.

    Attributes:
        slices: The candidates that were tested on the held-out half, confirmed ones first, then by q-value.
        answers, held_out: Graded answers of the discovery half and of the other; failed, held_out_failed of them.
        min_support: That was used.
        tree: The capability tree of the run's prompts, over `tree_items`.
        notes: Sentences on what was left out.
    """

    run_id: int
    model_id: int
    slices: tuple[FoundSlice, ...]
    answers: int
    failed: int
    held_out: int
    held_out_failed: int
    min_support: int
    graders: tuple[int, ...]
    tree: Tree | None
    tree_rates: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]

    @property
    def confirmed(self) -> tuple[FoundSlice, ...]:
        """Those within the false discovery rate."""
        return tuple(one for one in self.slices if one.confirmed)


def in_words(where: Mapping[str, str]) -> str:
    """Returns features as a name: "topic = fractions and constraint lowercase"."""
    return " and ".join(name if value == YES else f"{name} = {value}" for name, value in where.items())


def store_slices(ledger: Ledger, found: Discovery) -> Discovery:
    """Stores the confirmed slices of a search, and returns it with their ids."""
    ids = iter(write_slices(ledger, found.run_id, [_row(found, one) for one in found.confirmed]))
    slices = [replace(one, slice_id=next(ids)) if one.confirmed else one for one in found.slices]
    return replace(found, slices=tuple(slices))


def _row(found: Discovery, one: FoundSlice) -> SliceRow:
    what: dict[str, Any] = {"where": dict(one.where)} if one.where else {"terms": list(one.terms)}
    identity = {"model": found.model_id, "metric": one.metric, **what}
    definition = {
        **identity, "dataset": one.dataset_id, "graders": list(found.graders), "about": one.about,
        "discovery": asdict(one.discovery), "held_out": asdict(one.held_out.counts),
        "interval": [one.held_out.lower, one.held_out.upper], "p_value": one.held_out.p_value,
        "stability": one.stability, "examples": list(one.examples), "also": list(one.also),
    }  # fmt: skip
    return SliceRow(
        one.name,
        identity,
        {key: value for key, value in definition.items() if value not in (None, [], {})},
        one.held_out.counts.effect,
        one.held_out.q_value,
        one.items,
    )


def by_evidence(slices: Sequence[FoundSlice]) -> tuple[FoundSlice, ...]:
    """Sorts slices: confirmed ones first, the smallest q-value first, then the largest effect."""
    return tuple(sorted(slices, key=lambda s: (not s.confirmed, s.held_out.q_value, -s.held_out.counts.effect, s.name)))
