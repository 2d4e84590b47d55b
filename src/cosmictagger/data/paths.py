"""Which files the user means."""

import glob
from collections.abc import Sequence
from pathlib import Path

from cosmictagger.config.options import suggest
from cosmictagger.errors import UserError


def expand(patterns: Sequence[str | Path]) -> tuple[Path, ...]:
    """Turn paths and globs into existing files, in the order given and sorted within a glob.

    Raises UserError for a path that does not exist, a glob without a match, a directory, or no path at all.
    """
    if not patterns:
        raise UserError("--file: no file is given; name larcv3 files, such as --file 'data/*.h5'.")
    return tuple(path for pattern in patterns for path in _expand_one(str(pattern)))


def _expand_one(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        raise UserError(f"'{pattern}' is a directory; name its files, such as '{pattern.rstrip('/')}/*.h5'.")
    if path.exists():
        return [path]
    if glob.has_magic(pattern):
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob would match hidden files too)
        matches = [match for match in map(Path, sorted(found)) if match.is_file()]
        if not matches:
            raise UserError(f"No file matches '{pattern}'; check the directory and the pattern.")
        return matches
    if not path.parent.is_dir():
        raise UserError(f"There is no file '{pattern}', nor a directory '{path.parent}'.")
    siblings = [sibling.name for sibling in path.parent.iterdir() if sibling.is_file()]
    raise UserError(f"There is no file '{pattern}'{suggest(path.name, siblings)}; check the path.")
