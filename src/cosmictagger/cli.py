"""From the words of the command line to a mode and an exit code."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from cosmictagger.config.parser import parse_command_line
from cosmictagger.config.resolve import resolve
from cosmictagger.errors import UserError
from cosmictagger.reporting.console import Console

# How often an idle thread of GCC's OpenMP looks for work before it sleeps, about 0.1 ms. By itself it looks 300,000 times
# with a core of its own, and then keeps the core from whoever works on it: beside two jobs of a compiler on two cores,
# sparse inference runs at 1.1 to 1.9 images/s so, and at 3.0 to 4.7 with this.
SPINS = "20000"

EXIT_OK, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one mode and return the exit code: 0 done, 2 bad input, 130 interrupted; other errors are raised."""
    verbosity = 1
    try:
        request = parse_command_line(sys.argv[1:] if arguments is None else arguments)
        config = resolve(request.flags, request.config_file)
        verbosity = config.run.verbosity
        _let_idle_threads_sleep()
        # The mode is imported only now: --help and mistakes need neither torch nor MPI.
        mode = importlib.import_module(f"cosmictagger.modes.{request.mode}")
        return int(mode.run(config))
    except UserError as error:
        Console().error(f"{traceback.format_exc()}{error}" if verbosity > 1 else str(error))
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        Console().error("interrupted")
        return EXIT_INTERRUPTED


def _let_idle_threads_sleep() -> None:
    """Set what OpenMP reads when PyTorch is imported, unless the user has."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
