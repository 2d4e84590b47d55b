"""Random numbers that depend on the seed, the event and the purpose alone."""

import zlib

import numpy as np


def stream(seed: int, event: int, purpose: str) -> np.random.Generator:
    """Make the generator of one purpose in one event; streams of different arguments are independent.

    So an event never depends on the events or the worker processes around it, nor one part of the simulation
    on how many numbers another part drew.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, event, zlib.crc32(purpose.encode())])))
