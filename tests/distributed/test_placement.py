"""Cores are split evenly, and a launcher's binding is left alone."""

import os

import numpy as np
import pytest

from cosmictagger.distributed import placement
from cosmictagger.distributed.placement import alone, own_cores, place, split


class Host:
    """A rank on a host where the others have the given cores."""

    def __init__(self, rank: int, masks: list[list[int]]) -> None:
        self.rank, self.size = rank, len(masks)
        self.masks = np.zeros((self.size, placement.MOST_CORES))
        for number, cores in enumerate(masks):
            self.masks[number, cores] = 1

    def minimum(self, values):
        return self.masks.min(axis=0)

    def maximum(self, values):
        return self.masks.max(axis=0)


@pytest.fixture
def bound(monkeypatch) -> list[list[int]]:
    """What the process was bound to; nothing really is."""
    calls: list[list[int]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: calls.append(list(cores)))
    return calls


def on(monkeypatch, rank: int, masks: list[list[int]], bind: str = "auto"):
    monkeypatch.setattr(placement, "own_cores", lambda: masks[rank])
    return place(bind, Host(rank, masks))


@pytest.mark.parametrize(("cores", "ranks"), [(8, 2), (7, 3), (4, 4), (9, 2)])
def test_parts_are_contiguous_even_and_cover_all(cores, ranks):
    everything = list(range(10, 10 + cores))
    parts = [split(everything, rank, ranks) for rank in range(ranks)]
    assert [core for part in parts for core in part] == everything
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_ranks_that_share_all_cores_get_a_part_each(monkeypatch, bound):
    found = on(monkeypatch, 1, [[0, 1, 2, 3]] * 2)
    assert bound == [[2, 3]]
    assert (found.local_rank, found.local_size, found.cores) == (1, 2, 2)
    assert "bound to its part" in found.description


def test_the_binding_of_the_launcher_is_kept(monkeypatch, bound):
    found = on(monkeypatch, 1, [[0, 1], [4, 5, 6]])
    assert bound == []
    assert found.cores == 3
    assert "bound by the launcher" in found.description


def test_no_binding_when_asked_for(monkeypatch, bound):
    found = on(monkeypatch, 0, [[0, 1, 2, 3]] * 2, bind="none")
    assert bound == []
    assert found.cores == 2
    assert "--bind none" in found.description


def test_more_ranks_than_cores_stay_free(monkeypatch, bound):
    found = on(monkeypatch, 2, [[0, 1]] * 3)
    assert bound == []
    assert found.cores == 1
    assert "3 ranks of a host share 2" in found.description


def test_a_rank_alone_on_its_host_has_all_cores(monkeypatch, bound):
    found = on(monkeypatch, 0, [[0, 1, 2]])
    assert bound == []
    assert found.cores == 3
    assert found.description == "3 cores a rank, alone on its host"


def test_without_mpi_all_cores_are_the_rank_s():
    assert alone().cores == len(own_cores()) == len(os.sched_getaffinity(0))
