"""Thin entry points: `python -m scripts.NAME --help`."""
