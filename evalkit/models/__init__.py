"""Models: one protocol, one module for each provider."""

from evalkit.models.base import ChatModel, Message, ModelSettings, Reply, Request, RequestFailed, Sampling, request_key

__all__ = ["ChatModel", "Message", "ModelSettings", "Reply", "Request", "RequestFailed", "Sampling", "request_key"]
