"""Counts as targets: each file is one part, named by an entry point in pyproject.toml."""
