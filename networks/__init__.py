"""Layers that world models and agents are built of: what both need, so that neither looks at the other."""
