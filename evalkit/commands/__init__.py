"""The commands of the command line, one module for each group: they parse, call and print; no logic."""
