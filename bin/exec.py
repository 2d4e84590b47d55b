#!/usr/bin/env python3
"""Train, time or apply UResNets on liquid-argon TPC images: python bin/exec.py MODE --help."""

import sys
from pathlib import Path

try:
    from cosmictagger.cli import main
except ModuleNotFoundError as missing:
    if missing.name != "cosmictagger":
        raise
    # Works from a checkout that is not installed, as long as the dependencies are.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    from cosmictagger.cli import main

if __name__ == "__main__":
    sys.exit(main())
