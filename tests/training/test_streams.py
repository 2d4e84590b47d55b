"""Random numbers depend on seed, rank and step, and on nothing else."""

import torch

from cosmictagger.training.streams import seed_step


def draw(seed: int, rank: int, step: int) -> list[float]:
    seed_step(seed, rank, step)
    return torch.rand(3).tolist()


def test_a_step_draws_the_same_whatever_came_before():
    first = draw(1, 0, 7)
    torch.rand(100)
    assert draw(1, 0, 7) == first


def test_seeds_ranks_and_steps_draw_differently():
    drawn = [draw(*key) for key in [(1, 0, 7), (2, 0, 7), (1, 1, 7), (1, 0, 8), (1, 7, 0)]]
    assert len({tuple(values) for values in drawn}) == len(drawn)
