"""One exception tree. Catch :class:`VoxiconError` to catch everything this package raises on purpose.

::

    VoxiconError                 exit 1   code E-VOXICON
    ├── InputError               exit 1   the scan handed in cannot be used
    │   ├── UnreadableFile                bytes are missing, damaged or of another format
    │   ├── BadGeometry                   the header does not say where the voxels are
    │   └── NotCt                         the values are not Hounsfield units of a CT
    ├── OutputError              exit 1   a result cannot be written
    ├── DownloadError            exit 1   weights cannot be fetched
    ├── UsageError               exit 2   the request itself is wrong
    │   ├── UnknownClass                  no such class, or more than one fits
    │   ├── ConfigError                   a configuration file or option
    │   └── CardError                     a dataset card
    └── CheckpointError          exit 2   weights cannot be used

A message is one line with four parts: which file or field, what was found, what was expected,
what to do. The command line prints it as it is; library code never prints and never exits.
"""

from __future__ import annotations


class VoxiconError(Exception):
    """A problem a user can act on: ``str(error)`` is one line, ``error.code`` is stable for programs.

    Args:
        message: What file or field, what was found, what was expected, what to do.
        code: A stable name such as ``E-TRUNC`` that scripts may compare with.
    """

    exit_code = 1
    code = "E-VOXICON"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(" ".join(message.split()))
        if code is not None:
            self.code = code


class InputError(VoxiconError):
    """The scan handed in cannot be used."""

    code = "E-INPUT"


class UnreadableFile(InputError):
    """Bytes are missing, damaged, or of another format."""

    code = "E-FORMAT"


class BadGeometry(InputError):
    """The header does not say where in the patient the voxels are."""

    code = "E-GEOMETRY"


class NotCt(InputError):
    """The values are not Hounsfield units of a CT."""

    code = "E-HU"


class OutputError(VoxiconError):
    """A result cannot be written."""

    code = "E-OUTPUT"


class DownloadError(VoxiconError):
    """Weights cannot be fetched."""

    code = "E-DOWNLOAD"


class UsageError(VoxiconError):
    """The request itself is wrong."""

    exit_code = 2
    code = "E-USAGE"


class UnknownClass(UsageError):
    """No class of that name, or more than one that fits."""

    code = "E-CLASS"


class ConfigError(UsageError):
    """A configuration file or option is wrong."""

    code = "E-CONFIG"


class CardError(UsageError):
    """A dataset card is wrong; the message names file and line."""

    code = "E-CARD"


class CheckpointError(VoxiconError):
    """Weights cannot be used."""

    exit_code = 2
    code = "E-WEIGHTS"
