"""World models behind the port `dreamer.core.ports.WorldModel`, one file a family."""
