"""The models of free-prompt battles: loaded when first asked, kept, and shared by all who wait for them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from app.live_talk import Side
from evalkit.errors import UserError
from evalkit.models import ChatModel, ModelSettings, Reply, Request, RequestFailed, Sampling
from evalkit.models.local import LocalModel
from evalkit.models.streaming import stream
from evalkit.plan import ModelPlan
from evalkit.store.live import Contestant

ANSWER_SECONDS = 180.0
LOADED_MODELS = 3
"""On this machine; the one asked longest ago makes room."""

_log = logging.getLogger(__name__)


class Models:
    """Models by what they are; used in one event loop.

    Args:
        load: Makes a model ready to be asked.
    """

    def __init__(self, load: Callable[[ModelPlan], ChatModel]) -> None:
        self._load = load
        self._servers: dict[int, ChatModel] = {}
        self._local: OrderedDict[str, list[ChatModel]] = OrderedDict()
        self._loading = asyncio.Lock()

    async def answer(self, side: Side, request: Request, number: int = 0) -> Reply | RequestFailed:
        """Has a side's model answer; the side says how far it is.

        Args:
            side: Whose model is asked.
            request: Already `effective`.
            number: How many models with the same weights answer at the same time before it.
        """

        def heard(text: str) -> None:
            if side.state == "answering":
                side.said = text

        try:
            model = await (self._here(side, number) if side.is_local else self._server(side))
            side.state = "answering"
            async with asyncio.timeout(ANSWER_SECONDS):
                return await stream(model, request, heard)
        except RequestFailed as failure:
            return failure
        except TimeoutError:
            return RequestFailed("timeout", f"no whole answer within {ANSWER_SECONDS:g} s", paid=not side.is_local)
        except UserError as error:
            return RequestFailed("unsupported", str(error))
        except Exception as error:  # noqa: BLE001  of a library, such as too little memory: stored as a failure
            _log.warning("model %d failed in a free-prompt battle", side.contestant.model_id, exc_info=True)
            return RequestFailed("server", f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Frees connections and weights."""
        for model in [*self._servers.values(), *(one for twins in self._local.values() for one in twins)]:
            await model.close()

    async def _server(self, side: Side) -> ChatModel:
        contestant = side.contestant
        if contestant.model_id not in self._servers:
            seconds = min(contestant.plan.timeout_seconds, ANSWER_SECONDS)
            plan = contestant.plan.model_copy(update={"timeout_seconds": seconds})
            self._servers[contestant.model_id] = _same(self._load(plan), contestant)
        return self._servers[contestant.model_id]

    async def _here(self, side: Side, number: int) -> ChatModel:
        """Returns a model with these weights, loaded once; the second of a battle is a twin that shares them."""
        weights = weights_of(side.contestant.settings)
        if len(self._local.get(weights, ())) <= number:
            side.state, side.step = "loading", ("Loading the model", 0.0)
        async with self._loading:
            models = self._local.setdefault(weights, [])
            self._local.move_to_end(weights)
            while len(self._local) > LOADED_MODELS:
                for model in self._local.popitem(last=False)[1]:
                    await model.close()
            if not models:
                models.append(await asyncio.to_thread(self._load_here, side))
            elif number >= len(models) and isinstance(models[0], LocalModel):
                models.append(await asyncio.to_thread(models[0].twin))
            return models[min(number, len(models) - 1)]

    def _load_here(self, side: Side) -> ChatModel:
        model = _same(self._load(side.contestant.plan), side.contestant)
        if isinstance(model, LocalModel):
            side.step = ("Loading the libraries", 0.1)
            import torch  # most of the seconds are this import's
            import transformers  # noqa: F401

            # Two answers are made at once: more threads than processors would wait for each other at every product.
            torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
            side.step = ("Reading the weights", 0.6)
            model.load()
        return model


def weights_of(settings: ModelSettings) -> str:
    """What contestants share that differ in system prompt, sampling and label alone: they are one model in memory."""
    return replace(settings, system=None, sampling=Sampling(), label="").hash


def _same(model: ChatModel, contestant: Contestant) -> ChatModel:
    """Returns the model if it is the ledger's.

    Raises:
        UserError: The weights, or their settings, are others than the ledger's.
    """
    if model.settings.hash != contestant.settings.hash:
        raise UserError(
            f"{contestant.name}: what loads as {contestant.plan.model} now is not the model of the ledger "
            "(its weights or settings have changed); run it anew and name the new one."
        )
    return model
