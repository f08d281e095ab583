"""Judges of battles: LLM judges with versioned prompts, verifiers, and juries of them."""
