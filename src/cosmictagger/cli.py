"""From the words of the command line to a mode and an exit code."""

import importlib
import sys
import traceback
from collections.abc import Sequence

from cosmictagger.config.parser import parse_command_line
from cosmictagger.config.resolve import resolve
from cosmictagger.errors import UserError
from cosmictagger.reporting.console import Console

EXIT_OK, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one mode and return the exit code: 0 done, 2 bad input, 130 interrupted; other errors are raised."""
    verbosity = 1
    try:
        request = parse_command_line(sys.argv[1:] if arguments is None else arguments)
        config = resolve(request.flags, request.config_file)
        verbosity = config.run.verbosity
        # The mode is imported only now: --help and mistakes need neither torch nor MPI.
        mode = importlib.import_module(f"cosmictagger.modes.{request.mode}")
        return int(mode.run(config))
    except UserError as error:
        Console().error(f"{traceback.format_exc()}{error}" if verbosity > 1 else str(error))
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        Console().error("interrupted")
        return EXIT_INTERRUPTED
