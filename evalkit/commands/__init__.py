"""The commands of `evalkit`, one module for each group: they parse, call and print; no logic."""
