"""Exceptions a user can meet. Each message names what failed, what was found and what to do."""


class EngineError(Exception):
    """Anything the engine refuses or cannot do; the command line prints it as one line."""


class ConfigError(EngineError):
    """A config value, path, name or right that is wrong before any work started."""


class LabelsError(ConfigError):
    """A file of labels that cannot be read or written as a whole; names the file and the line."""


class TableError(EngineError):
    """A table that does not have the columns, types or values the schema asks for."""


class SpecialistError(EngineError):
    """A specialist that cannot be built or loaded, or that broke its promise."""


class TrainingError(EngineError):
    """A training that cannot go on, such as one whose loss is no number; names what is kept."""


class ShardError(EngineError):
    """A shard that could not be committed, with what did not add up."""


class StoppedError(EngineError):
    """A run that stopped early (alarm, full disk, signal); the same command resumes it."""
