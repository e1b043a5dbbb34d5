"""The disk and the network: run folder, facts, log, checkpoints."""

from dreamer.io.checkpoints import CheckpointError, Checkpoints, Restored, require_finite
from dreamer.io.facts import FactLog, FactsError
from dreamer.io.faults import is_passing
from dreamer.io.log import Log, LogError, read_log
from dreamer.io.minari_export import export_minari
from dreamer.io.run_folder import BusyError, RunFolder, RunFolderError
from dreamer.io.versions import Versions, VersionsError

__all__ = [
    "BusyError",
    "CheckpointError",
    "Checkpoints",
    "FactLog",
    "FactsError",
    "Log",
    "LogError",
    "Restored",
    "RunFolder",
    "RunFolderError",
    "Versions",
    "VersionsError",
    "export_minari",
    "is_passing",
    "read_log",
    "require_finite",
]
