"""From a plan's model to a ChatModel."""

from __future__ import annotations

from pathlib import Path

from evalkit.models import embedded
from evalkit.models.base import ChatModel, ModelSettings, Sampling
from evalkit.plan import ModelPlan, SamplingPlan


def sampling(plan: SamplingPlan) -> Sampling:
    """Returns a plan's sampling parameters as the request's."""
    return Sampling(**plan.model_dump())


def load_model(plan: ModelPlan) -> ChatModel:
    """Makes a model ready to be asked; weights are read at the first request.

    Args:
        plan: The contestant or judge.

    Raises:
        UserError: There is no such model, or its extra is not installed.
    """
    provider, _, name = plan.model.partition("/")

    def settings(
        provider: str, name: str, revision: str | None, *, endpoint: str | None = None, dtype: str | None = None
    ) -> ModelSettings:
        drawn = sampling(plan.sampling)
        return ModelSettings(
            provider, name, revision, endpoint, dtype, plan.system, drawn, extra=plan.extra, label=plan.label
        )

    if provider == "openai":
        from evalkit.models.endpoint import EndpointModel, default_endpoint

        url = (plan.base_url or default_endpoint()).rstrip("/")
        kind = EndpointModel
        if plan.batch:
            from evalkit.models.batch_api import BatchModel

            kind = BatchModel
        return kind(
            settings("openai", name, plan.revision, endpoint=url),
            api_key_env=plan.api_key_env,
            timeout_s=plan.timeout_seconds,
            max_concurrency=plan.max_concurrency,
        )
    if provider == "recorded":
        from evalkit.models.recorded import RecordedModel

        file, _, model = name.partition("#")
        return RecordedModel(Path(file), model, label=plan.label)
    from evalkit.models.local import LocalModel, auto_dtype

    dtype = auto_dtype() if plan.dtype == "auto" else plan.dtype
    if provider == "embedded":
        who = settings("embedded", name, embedded.revision(name), dtype=dtype)
        return LocalModel(who, embedded.folder(name), batch_size=plan.batch_size)
    from evalkit.models.weights import find_weights

    path, revision = find_weights(name, plan.revision)
    known_as = (
        path.name if Path(name).expanduser().is_dir() else name
    )  # a folder's content says what it is, not its path
    who = settings(provider, known_as, revision, dtype=dtype)
    if provider == "vllm":
        from evalkit.models.vllm import VllmModel

        return VllmModel(who, str(path), batch_size=plan.batch_size)
    return LocalModel(who, path, batch_size=plan.batch_size)
