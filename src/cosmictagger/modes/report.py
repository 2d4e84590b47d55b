"""Make the report page of a log directory again, from the files in it."""

from pathlib import Path

from cosmictagger.config.sections import Config
from cosmictagger.reporting.console import Console
from cosmictagger.reporting.report import write_report


def run(config: Config) -> int:
    """Write report.html for the latest run in the log directory and return the exit code."""
    with Console(config.run.verbosity) as console:
        console.result(f"Report: {write_report(Path(config.run.log_directory))}")
    return 0
