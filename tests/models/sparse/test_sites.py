"""Site sets against their definition, pixel by pixel."""

import functools
import itertools

import numpy as np
import pytest

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models.sparse.native import library
from cosmictagger.models.sparse.sites import build_sites, kernel_sizes
from cosmictagger.models.sparse.tables import CompiledBuilder, NumpyBuilder

from .conftest import OCCUPANCIES, occupancy
from .conftest import tables_of as tables_by

SIZES = (frozenset({3, 5}), frozenset({3}), frozenset({7}))


@pytest.fixture(params=OCCUPANCIES)
def active(request):
    return occupancy(request.param)


@pytest.fixture(params=["numpy", "compiled", "compiled, 3 threads"])
def tables_of(request):
    if request.param == "numpy":
        return functools.partial(tables_by, builder=NumpyBuilder())
    kernels = library.load()
    if isinstance(kernels, str):
        pytest.skip(kernels)
    return functools.partial(tables_by, builder=CompiledBuilder(kernels, 3 if "threads" in request.param else 1))


def cells(level, planes=3):
    """(image, plane, tick, wire) of every site."""
    image, plane = np.divmod(level.image_plane, planes)
    tick, wire = np.divmod(level.pixel, level.shape[1])
    return list(zip(image.tolist(), plane.tolist(), tick.tolist(), wire.tolist(), strict=True))


def pooled(active):
    images, planes, height, width = active.shape
    return active.reshape(images, planes, height // 2, 2, width // 2, 2).any(axis=(3, 5))


def test_the_sites_are_the_active_pixels_of_each_level(active, tables_of):
    for level in tables_of(active, SIZES).levels:
        assert level.shape == active.shape[2:]
        assert cells(level) == list(zip(*(axis.tolist() for axis in np.nonzero(active)), strict=True))
        active = pooled(active)


def test_neighbours_are_the_sites_under_the_kernel(active, tables_of):
    for level, sizes in zip(tables_of(active, SIZES).levels, SIZES, strict=True):
        number = {cell: site for site, cell in enumerate(cells(level))}
        assert level.sizes == sizes
        for size in sizes:
            table = level.neighbours(size)
            steps = range(-(size // 2), size // 2 + 1)
            expected = [
                [number.get((image, plane, tick + dt, wire + dw), -1) for dt, dw in itertools.product(steps, steps)]
                for image, plane, tick, wire in number
            ]
            assert table.tolist() == expected
            assert table.dtype == np.int32


def test_links_join_children_to_their_parent(active, tables_of):
    levels = tables_of(active, SIZES).levels
    for level, below in itertools.pairwise(levels):
        parents = {cell: site for site, cell in enumerate(cells(below))}
        children = np.full((len(below), 4), -1)
        for site, (image, plane, tick, wire) in enumerate(cells(level)):
            parent, slot = parents[image, plane, tick // 2, wire // 2], 2 * (tick % 2) + wire % 2
            assert level.family[site] == 4 * parent + slot
            children[parent, slot] = site
        assert np.array_equal(level.children, children)
    assert levels[-1].family is None
    assert levels[-1].children is None


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([3, 3], "3 follows 3"),
        ([4, 2], "2 follows 4"),
        ([3, 16], "outside the image of 4×4"),
        ([-2, 3], "outside the image of 4×4"),
    ],
)
def test_sites_that_no_reader_gives_are_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        build_sites(np.array([[pixels]], np.int32), np.array([[2]], np.int32), (4, 4), (frozenset({3}),))


def test_slots_beyond_the_count_are_not_looked_at():
    index = np.array([[[1, 5, 5, 99]]], np.int32)
    tables = build_sites(index, np.array([[2]], np.int32), (4, 4), (frozenset(),))
    assert tables.levels[0].pixel.tolist() == [1, 5]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [{3, 5}, {3}, set()]),
        ({"filter_size_initial": 1, "res_blocks_per_layer": 0, "res_blocks_final": 0}, [set(), set(), set()]),
        ({"filter_size_initial": 7, "res_blocks_per_layer": 0}, [{3, 7}, set(), set()]),
        ({"block_concat": True, "filter_size_deepest": 5}, [{3, 5}, {3}, {5}]),
    ],
    ids=str,
)
def test_kernel_sizes_of_a_network(options, sizes):
    assert kernel_sizes(NetworkConfig(network_depth=2, **options)) == tuple(map(frozenset, sizes))


def test_ticks_are_numbered_where_planes_exchange(active):
    index = np.full((2, 3, 600), -1, np.int32)
    counts = active.sum(axis=(2, 3)).astype(np.int32)
    for image, plane in itertools.product(range(2), range(3)):
        index[image, plane, : counts[image, plane]] = np.flatnonzero(active[image, plane])
    levels = build_sites(index, counts, (16, 32), SIZES, ticks_at={len(SIZES) - 2}).levels
    assert [level.ticks is not None for level in levels] == [False, True, False]
    tick = levels[1].image_plane * 8 + levels[1].pixel // 16
    sites = np.arange(len(levels[1]))
    expected = [sites[tick == number].tolist() for number in range(48)]
    assert [sites[a:b].tolist() for a, b in itertools.pairwise(levels[1].ticks)] == expected
