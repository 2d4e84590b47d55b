"""Views move pixels and bring the answers back to where they came from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cosmictagger.config.sections import Config, NetworkConfig, TrainingConfig
from cosmictagger.data.batch import PADDING, allocate, image_dtype, pack
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.models.build import build_network
from cosmictagger.models.sparse.engines import choose_engine
from cosmictagger.models.sparse.sites import kernel_sizes
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.batches import SparseUnpacker
from cosmictagger.training.evaluation import Evaluated
from cosmictagger.training.precision import resolve_precision
from cosmictagger.training.views import FARTHEST, View, ViewAverage, further_views, moved

SHAPE, PLANES, SLOTS = (24, 40), 3, 60


@pytest.fixture
def records():
    """Two images with pixels everywhere, and one of padding."""
    random = np.random.default_rng(4)
    records = allocate(3, image_dtype(PLANES, SLOTS))
    for number in range(2):
        planes = []
        for count in random.integers(1, SLOTS, PLANES):
            index = np.sort(random.choice(SHAPE[0] * SHAPE[1], count, replace=False)).astype(np.int32)
            label = random.integers(0, 3, count).astype(np.uint8)
            planes.append(PlanePixels(index, random.random(count, np.float32) + 1, label))
        pack(Event(number, EventId(1, 0, number), SHAPE, tuple(planes)), records[number], "error")
    return records


def pixels(records):
    """List (image, plane, tick, wire, charge, label) of all pixels, in the order of the batch."""
    return [
        (image, plane, *divmod(int(record["index"][plane, slot]), SHAPE[1]), record["value"][plane, slot],
         record["label"][plane, slot])
        for image, record in enumerate(records)
        for plane in range(PLANES)
        for slot in range(record["count"][plane])
    ]  # fmt: skip


@pytest.mark.parametrize(
    "view", [View(False, 0, (0, 0)), View(False, 3, (-5, 2)), View(True, -2, (4, -4)), View(True, 0, (0, 0))]
)
def test_every_pixel_that_stays_inside_comes_from_its_place(records, view):
    seen, origin = moved(records, view, SHAPE)
    before, after = pixels(records), pixels(seen)
    assert len(origin) == len(after)
    for place, (image, plane, tick, wire, charge, label) in zip(origin, after, strict=True):
        source = before[place]
        start = SHAPE[0] - 1 - source[2] if view.mirrored else source[2]
        steps = (*view.wires, sum(view.wires))
        assert (image, plane, tick, wire) == (source[0], source[1], start + view.ticks, source[3] + steps[plane])
        assert (charge, label) == source[4:]

    def inside(pixel):
        tick = (SHAPE[0] - 1 - pixel[2] if view.mirrored else pixel[2]) + view.ticks
        return 0 <= tick < SHAPE[0] and 0 <= pixel[3] + (*view.wires, sum(view.wires))[pixel[1]] < SHAPE[1]

    assert sorted(origin) == [place for place, pixel in enumerate(before) if inside(pixel)]
    assert seen["entry"].tolist() == [0, 1, PADDING]
    for record in seen:
        for plane, count in enumerate(record["count"]):
            assert (np.diff(record["index"][plane, :count]) > 0).all()
            assert (record["index"][plane, count:] == PADDING).all()
            assert not record["value"][plane, count:].any()


def average(records, network, views):
    unpack = lambda records: SimpleNamespace(inputs=records, kept=None)  # noqa: E731
    averaging = ViewAverage(
        network=network,
        unpack=unpack,
        precision=resolve_precision(TrainingConfig(), torch.device("cpu")),
        clocks=Clocks(lambda: None),
        shape=SHAPE,
        views=views,
    )
    return averaging(Evaluated(records, unpack(records), network(records))).logits


def test_a_network_that_does_not_look_at_places_says_the_same(records):
    def network(records):
        charge = torch.tensor([pixel[4] for pixel in pixels(records)])
        return torch.stack([charge, -charge, charge**2], dim=1)

    logits = average(records, network, further_views(5, mirror=True))
    torch.testing.assert_close(logits, torch.log_softmax(network(records), dim=1))


def test_probabilities_are_averaged_over_the_views_that_see_a_pixel(records):
    def network(records):  # certain of class 1 at even wires, and of class 0 at odd ones
        even = torch.tensor([pixel[3] % 2 == 0 for pixel in pixels(records)])
        return torch.stack([(~even) * 50.0, even * 50.0, torch.full((len(even),), -50.0)], dim=1)

    chances = average(records, network, [View(False, 0, (1, 1)), View(False, 0, (2, 2))]).exp()
    for pixel, chance in zip(pixels(records), chances, strict=True):
        moves = (0, 2, 4) if pixel[1] == 2 else (0, 1, 2)
        even = [(pixel[3] + moved_by) % 2 == 0 for moved_by in moves if pixel[3] + moved_by < SHAPE[1]]
        assert chance[1] == pytest.approx(sum(even) / len(even), abs=1e-6)


def test_a_pixel_that_is_certain_has_finite_logits(records):
    def network(records):
        return torch.tensor([[500.0, 0.0, -500.0]] * len(pixels(records)))

    logits = average(records, network, [View(False, 0, (1, 1))])
    assert logits.isfinite().all()
    assert (logits.argmax(dim=1) == 0).all()


@pytest.mark.parametrize("threshold", [0.0, 45.0], ids=["all pixels", "zero suppression"])
def test_moving_by_whole_blocks_changes_nothing(threshold):
    """Against a real sparse network: by as much as its deepest pixels are large, the same comes out, in the same order."""
    shape, depth = (64, 64), 2
    random = np.random.default_rng(1)
    records = allocate(2, image_dtype(PLANES, SLOTS))
    for number in range(2):
        planes = []
        for count in random.integers(20, SLOTS, PLANES):
            place = np.sort(random.choice(32 * 32, count, replace=False)).astype(np.int32)
            index = (place // 32 + 16) * shape[1] + place % 32 + 16  # 16 pixels from every edge
            planes.append(PlanePixels(index, random.random(count, np.float32) * 50, None))
        pack(Event(number, EventId(1, 0, number), shape, tuple(planes)), records[number], "error")
    config = Config(network=NetworkConfig(sparse=True, network_depth=depth, n_initial_filters=4, block_concat=True))
    engine, precision = (
        choose_engine("torch", torch.device("cpu")),
        resolve_precision(config.training, torch.device("cpu")),
    )
    torch.manual_seed(0)
    network = build_network(config.network, PLANES, shape, engine=engine).eval()
    unpack = SparseUnpacker(
        shape=shape,
        device=torch.device("cpu"),
        dtype=torch.float32,
        model_dtype=torch.float32,
        transform="log",
        engine=engine,
        sizes=kernel_sizes(config.network),
        zero_suppression=threshold,
    )
    batch = unpack(records)
    assert (len(batch.labels) < records["count"].sum()) == (threshold > 0)
    with torch.inference_mode():
        logits = network(batch.inputs)
    averaging = ViewAverage(
        network=network,
        unpack=unpack,
        precision=precision,
        clocks=Clocks(lambda: None),
        shape=shape,
        views=[View(False, 8, (-4, 4)), View(False, -4, (8, -4))],
    )
    averaged = averaging(Evaluated(records, batch, logits)).logits
    torch.testing.assert_close(averaged, torch.log_softmax(logits, dim=1), atol=1e-4, rtol=1e-4)


def test_views_differ_and_stay_near():
    views = further_views(64, mirror=False)
    assert len(views) == len(set(views)) == 63
    assert View(False, 0, (0, 0)) not in views
    moves = np.array([(view.ticks, *view.wires) for view in views])
    assert (np.abs(moves).max(axis=0) == FARTHEST).all()
    # Wherever pixels lie in blocks of 2 x 2: of 16 views, each plane is moved by even and odd ticks and wires.
    parities = np.concatenate([moves, moves[:, 1:].sum(axis=1, keepdims=True)], axis=1)[:15] % 2
    for plane in (1, 2, 3):
        assert {tuple(pair) for pair in parities[:, [0, plane]]} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert further_views(1, mirror=True) == []
    assert [view.mirrored for view in further_views(5, mirror=True)] == [True, False, True, False]


def test_a_view_that_leaves_out_a_pixel_says_nothing_about_it():
    """A pixel at the edge of a view may lose the neighbour that kept it above the threshold of zero suppression."""
    shape = (8, 8)
    planes = (PlanePixels(np.array([0, 8, 36], np.int32), np.array([2, 3, 9], np.float32), None),)
    records = allocate(1, image_dtype(1, 3))
    pack(Event(0, EventId(1, 0, 0), shape, planes), records[0], "error")
    cpu, types = torch.device("cpu"), {"dtype": torch.float32, "model_dtype": torch.float32, "transform": "none"}
    unpack = SparseUnpacker(
        **types, shape=shape, device=cpu, engine=choose_engine("torch", cpu), sizes=(frozenset(),), zero_suppression=4.0
    )
    seen = []

    def network(inputs):
        charge = inputs.values[:, 0]
        seen.append(charge.tolist())
        return torch.stack([charge * 0, charge * 0, charge / len(seen)], dim=1)  # each look is less sure

    averaging = ViewAverage(
        network=network,
        unpack=unpack,
        precision=resolve_precision(Config().training, cpu),
        clocks=Clocks(lambda: None),
        shape=shape,
        views=[View(False, -1, (0, 0))],
    )
    batch = unpack(records)
    plain = network(batch.inputs)
    averaged = averaging(Evaluated(records, batch, plain)).logits
    assert seen == [[2, 3, 9], [9]]
    first, second = torch.softmax(plain, dim=1), torch.softmax(plain[2:] * torch.tensor([1, 1, 0.5]), dim=1)
    torch.testing.assert_close(averaged.exp()[:2], first[:2])
    torch.testing.assert_close(averaged.exp()[2:], (first[2:] + second) / 2)


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_planes_beyond_the_third_move_as_the_first(planes):
    assert View(False, 0, (2, 5)).of_planes(planes).tolist() == [2, 5, 7, 2][:planes]
