"""Fixtures that several test folders share."""

from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SBND_SAMPLE = PROJECT.parent / "shared" / "data" / "sbnd_sample.h5"


@pytest.fixture(scope="session")
def project() -> Path:
    """The directory that holds pyproject.toml."""
    return PROJECT


@pytest.fixture(scope="session")
def sbnd_sample() -> Path:
    """Three simulated SBND events at full resolution, beside the project; not part of it."""
    if not SBND_SAMPLE.exists():
        pytest.skip("the SBND sample (../shared/data/sbnd_sample.h5) is not beside the project")
    return SBND_SAMPLE
