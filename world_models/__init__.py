"""World models behind the port `dreamer.core.ports.WorldModel`, one file or folder a family."""
