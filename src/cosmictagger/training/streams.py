"""Random numbers within a step: a stream of its own for every rank and step."""

import numpy as np
import torch


def seed_step(seed: int, rank: int, step: int) -> None:
    """Begin the stream of a step, so that ranks draw differently and a resumed run draws what it would have drawn.

    Parameters are drawn before, from the seed alone: they are the same on every rank.
    """
    state = np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(state >> np.uint64(1)))
