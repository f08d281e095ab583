"""Benchmarks: lm-eval's tasks run through evalkit's models, cache and ledger."""
