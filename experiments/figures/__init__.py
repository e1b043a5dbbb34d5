"""Figures, drawn from rows only."""
