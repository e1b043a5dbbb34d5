"""The real world: environments, the session that an agent lives in them, and the agent that is deployed into it."""

from dreamer.wake.deployed import Deployed

__all__ = ["Deployed"]
