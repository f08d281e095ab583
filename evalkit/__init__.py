"""evalkit: benchmarks, human votes and LLM judges in one ledger."""

__version__ = "0.1.0"
