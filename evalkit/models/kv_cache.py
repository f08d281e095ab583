"""A key-value cache that grows in steps: transformers' own copies all of it for each token."""

from __future__ import annotations

from typing import Any

STEP_TOKENS = 64


def growing_cache(model: Any) -> Any:
    """Returns an empty cache for a model's `generate`, with the numbers of transformers' own.

    None, which leaves the choice to transformers, for models whose layers have a sliding window or another state.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    if not model._supports_default_dynamic_cache():
        return None
    cache = DynamicCache(config=model.config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]
        room: tuple[Any, ...] = ()  # keys and values, with space for tokens to come

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.room = ()
            before = self.get_seq_length()
            after = before + key_states.shape[-2]
            if not self.room or after > self.room[0].shape[-2]:
                full = self.room
                self.room = tuple(
                    new.new_empty((*new.shape[:-2], after + STEP_TOKENS, new.shape[-1]))
                    for new in (key_states, value_states)
                )
                for room, kept in zip(self.room, full, strict=bool(full)):
                    room[..., :before, :] = kept[..., :before, :]
            for room, new in zip(self.room, (key_states, value_states), strict=True):
                room[..., before:after, :] = new
            self.keys, self.values = (room[..., :after, :] for room in self.room)
            return self.keys, self.values

    cache.layers = [GrowingLayer() for _ in cache.layers]
    return cache
