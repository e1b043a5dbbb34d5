"""Agents behind the port `dreamer.core.ports.Agent`."""
