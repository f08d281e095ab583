"""What a request costs in US dollars: a dated price list in this package, and the user's own over it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evalkit.errors import UserError
from evalkit.models.base import ModelSettings, Reply

LOCAL_PROVIDERS = ("hf", "embedded", "vllm", "recorded")
_FIELDS = {"model", "endpoint", "input", "cached_input", "output", "batch_discount"}
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens.

    Attributes:
        endpoint: Host name it holds for, or None for any.
        cached_input: Price of prompt tokens the endpoint had cached; None means the same as `input`.
        batch_discount: What the endpoint's batch API takes off: 0.5 is half the price.
    """

    model: str
    input: float
    output: float
    endpoint: str | None = None
    cached_input: float | None = None
    batch_discount: float = 0.0


@dataclass(frozen=True)
class Prices:
    """A price list. A model that is not in it has an unknown price: None, never 0."""

    prices: tuple[Price, ...]
    _found: dict[tuple[str, str | None], Price | None] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """Reads the built-in list and puts the user's YAML or JSON file before it.

        The file has the built-in list's form: `prices:` with rows of `model`, `input`, `output` (US dollars for a
        million tokens) and, optionally, `cached_input` and `endpoint` (host name).

        Raises:
            UserError: The file cannot be read or a row is wrong.
        """
        own = _read(path) if path else ()
        return cls(own + _read(Path(__file__).with_name("prices.json")))

    def find(self, settings: ModelSettings) -> Price | None:
        """Returns the model's price: by exact name, then without a date at its end; the first that matches."""
        key = (settings.name, settings.endpoint)
        if key not in self._found:
            self._found[key] = self._find(settings)
        return self._found[key]

    def _find(self, settings: ModelSettings) -> Price | None:
        host = urlsplit(settings.endpoint or "").hostname
        for name in (settings.name, _DATED.sub("", settings.name)):
            for price in self.prices:
                if price.model == name and price.endpoint in (None, host):
                    return price
        return None

    def cost(self, settings: ModelSettings, reply: Reply, *, batch: bool = False) -> float | None:
        """Returns what a reply cost in US dollars; None if the price or the token counts are unknown.

        Models that run here cost nothing: 0.0.

        Args:
            batch: Whether it came by the endpoint's batch API.
        """
        if settings.provider in LOCAL_PROVIDERS:
            return 0.0
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            return None
        cached = reply.cached_tokens or 0
        return self.estimate(settings, reply.prompt_tokens, reply.completion_tokens, cached, batch=batch)

    def estimate(
        self,
        settings: ModelSettings,
        prompt_tokens: float,
        completion_tokens: float,
        cached_tokens: float = 0,
        *,
        batch: bool = False,
    ) -> float | None:
        """Returns US dollars for so many tokens; `cached_tokens` are part of `prompt_tokens`. None if unknown."""
        if settings.provider in LOCAL_PROVIDERS:
            return 0.0
        price = self.find(settings)
        if price is None:
            return None
        cached_input = price.input if price.cached_input is None else price.cached_input
        fresh = prompt_tokens - cached_tokens
        full = (fresh * price.input + cached_tokens * cached_input + completion_tokens * price.output) / 1e6
        return full * (1 - price.batch_discount) if batch else full


def _read(path: Path) -> tuple[Price, ...]:
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"The price list {path} cannot be read: {reason}", code=2) from error
    rows = document.get("prices") if isinstance(document, Mapping) else None
    if not isinstance(rows, list):
        raise UserError(f"The price list {path} must be a mapping with a list named `prices`", code=2)
    return tuple(_price(path, number, row) for number, row in enumerate(rows, 1))


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from error


def _price(path: Path, number: int, row: Any) -> Price:
    where = f"{path}, price {number}"
    if not isinstance(row, Mapping) or not isinstance(row.get("model"), str):
        raise UserError(f"{where}: each row needs `model`, `input` and `output`", code=2)
    unknown = set(row) - _FIELDS
    if unknown:
        allowed = ", ".join(sorted(_FIELDS))
        raise UserError(f"{where}: unknown field `{min(map(str, unknown))}`; allowed are {allowed}", code=2)
    for name in ("input", "output", "cached_input"):
        value = row.get(name)
        if value is None and name == "cached_input":
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise UserError(f"{where}: `{name}` must be US dollars for a million tokens, not {value!r}", code=2)
    discount = row.get("batch_discount", 0.0)
    if not isinstance(discount, int | float) or isinstance(discount, bool) or not 0 <= discount <= 1:
        raise UserError(
            f"{where}: `batch_discount` must be from 0 to 1 (half the price is 0.5), not {discount!r}", code=2
        )
    return Price(**row)
