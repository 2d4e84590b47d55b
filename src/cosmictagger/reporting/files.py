"""Files that other programs read while a run goes on: valid JSON, replaced as a whole."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SIGNIFICANT_DIGITS = 15  # of a double, without the noise that sums leave (0.30000000000000004)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one go: a reader sees the old text or the new one, never a part; raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def to_json(value: Any, indent: int | None = None) -> str:
    """Write `value` as strict JSON: NaN and infinities become null, numpy scalars and arrays plain numbers."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Turn mappings, sequences, numpy values and paths into what JSON holds; raises TypeError for others."""
    if isinstance(value, np.floating):
        value = float(str(value))  # the shortest digits: 0.1 for float32, not 0.10000000149011612
    elif isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a JSON file")
