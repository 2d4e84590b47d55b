"""Augmentation: what each change does to an event, and that steps and entries alone decide it."""

import dataclasses

import numpy as np
import pytest

from cosmictagger.data.augment import CHARGE_SCALE, NOISE, Augmentation
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.errors import UserError
from cosmictagger.simulate.detector import Detector

SHAPE = (640, 1024)
ALL = ("drift-mirror", "beam-mirror", "time-shift", "charge-scale", "noise")


def make_event(entry: int = 3, pixels: int = 500) -> Event:
    random = np.random.default_rng(5)
    planes = []
    for plane in range(3):
        index = np.sort(random.choice(SHAPE[0] * SHAPE[1], pixels + plane, replace=False)).astype(np.int32)
        charge = random.uniform(5, 50, len(index)).astype(np.float32)
        planes.append(PlanePixels(index, charge, random.integers(3, size=len(index)).astype(np.uint8)))
    return Event(entry, EventId(0, 0, entry), SHAPE, tuple(planes))


def dense(pixels: PlanePixels) -> tuple[np.ndarray, np.ndarray]:
    charge, label = np.zeros(SHAPE, np.float32), np.full(SHAPE, 9, np.uint8)
    charge.flat[pixels.index] = pixels.value
    label.flat[pixels.index] = pixels.label
    return charge, label


def same(one: Event, other: Event) -> bool:
    return all(
        np.array_equal(getattr(p, name), getattr(q, name))
        for p, q in zip(one.planes, other.planes, strict=True)
        for name in ("index", "value", "label")
    )


def outcomes(change: str, steps: int = 40) -> list[Event]:
    augment = Augmentation((change,), seed=1, planes=3)
    return [augment(make_event(), step) for step in range(steps)]


def test_a_drift_mirror_reverses_the_ticks_of_about_half_the_images():
    event = make_event()
    changed = [outcome for outcome in outcomes("drift-mirror") if not same(outcome, event)]
    assert 10 <= len(changed) <= 30
    for before, after in zip(event.planes, changed[0].planes, strict=True):
        for was, now in zip(dense(before), dense(after), strict=True):
            assert np.array_equal(now, was[::-1])
        assert (np.diff(after.index) > 0).all()
        assert (after.index.dtype, after.value.dtype, after.label.dtype) == (np.int32, np.float32, np.uint8)


def test_a_beam_mirror_reverses_the_wires_and_swaps_the_induction_planes():
    event = make_event()
    changed = [outcome for outcome in outcomes("beam-mirror") if not same(outcome, event)]
    assert 10 <= len(changed) <= 30
    for before, after in zip((1, 0, 2), changed[0].planes, strict=True):
        for was, now in zip(dense(event.planes[before]), dense(after), strict=True):
            assert np.array_equal(now, was[:, ::-1])


def test_the_beam_mirror_is_a_symmetry_of_the_detector():
    detector, point = Detector(), np.array([17.0, -63.0, 120.0])
    mirrored = point * [1, 1, -1] + [0, 0, detector.length]

    def wire(plane: int, place: np.ndarray) -> float:
        a, b, c = detector.wire_axis(plane)
        return a * place[1] + b * place[2] + c

    for plane, other in enumerate((1, 0, 2)):
        # Wires 31 to 2016 and 192 to 1857 do not lie quite in the middle: up to four wires of 2,048 off.
        assert abs(wire(plane, mirrored) - (detector.n_wires - 1 - wire(other, point))) <= 4


def test_a_time_shift_moves_both_drift_volumes_apart_or_together_and_loses_what_leaves_them():
    tick = np.array([0, 1, 100, 319, 320, 500, 638, 639])
    index = (tick * SHAPE[1] + 7).astype(np.int32)
    pixels = PlanePixels(index, np.arange(1, 9, dtype=np.float32), np.ones(8, np.uint8))
    event = Event(0, EventId(0, 0, 0), SHAPE, (pixels,) * 3)
    augment, shifts = Augmentation(("time-shift",), seed=0, planes=3), set()
    for step in range(60):
        after = augment(event, step).planes[0]
        ticks = dict(zip(after.value.astype(int).tolist(), (after.index // SHAPE[1]).tolist(), strict=True))
        late = ticks[3] - 100
        shifts.add(late)
        expected = {charge: int(t) + (late if t < 320 else -late) for charge, t in enumerate(tick, start=1)}
        inside = {c: t for c, t in expected.items() if 0 <= t < 640 and (t < 320) == (tick[c - 1] < 320)}
        assert ticks == inside
    assert {-2, -1, 0, 1, 2} <= shifts <= set(range(-3, 4))


def test_charge_scale_is_one_factor_for_all_planes_of_an_image():
    factors = []
    for outcome in outcomes("charge-scale"):
        ratio = np.concatenate([a.value / b.value for a, b in zip(outcome.planes, make_event().planes, strict=True)])
        assert np.ptp(ratio) < 1e-6
        factors.append(ratio[0])
    assert 1 - CHARGE_SCALE <= min(factors) < 0.95
    assert 1.05 < max(factors) <= 1 + CHARGE_SCALE


def test_noise_changes_each_pixel_on_its_own_and_leaves_no_pixel_empty():
    event = make_event(pixels=20_000)
    faint = dataclasses.replace(event.planes[0], value=np.full(20_000, 0.05, np.float32))
    event = dataclasses.replace(event, planes=(faint, *event.planes[1:]))
    after = Augmentation(("noise",), seed=1, planes=3)(event, 0)
    # Of 20,000 draws the mean scatters by 0.007 and the standard deviation by 0.005.
    difference = after.planes[1].value - event.planes[1].value
    assert abs(difference.std() - NOISE) < 0.03
    assert abs(difference.mean()) < 0.03
    assert after.planes[0].value.min() > 0


def test_an_image_depends_on_seed_step_and_entry_alone():
    augment = Augmentation(ALL, seed=1, planes=3)
    first = augment(make_event(), 8)
    augment(make_event(entry=4), 9)
    assert same(first, augment(make_event(), 8))
    assert not same(first, augment(make_event(), 9))
    assert not same(first, augment(make_event(entry=4), 8))
    assert not same(first, Augmentation(ALL, seed=2, planes=3)(make_event(), 8))


def test_the_event_that_was_read_stays_as_it_is_and_may_have_no_labels():
    event, untouched = make_event(), make_event()
    augment = Augmentation(ALL, seed=1, planes=3)
    for step in range(10):
        augment(event, step)
    assert same(event, untouched)
    bare = dataclasses.replace(event, planes=tuple(dataclasses.replace(p, label=None) for p in event.planes))
    assert all(p.label is None for p in augment(bare, 3).planes)


def test_an_empty_plane_stays_empty():
    none = np.empty(0, np.int32)
    empty = PlanePixels(none, none.astype(np.float32), none.astype(np.uint8))
    augment = Augmentation(ALL, seed=1, planes=3)
    assert all(
        len(p.index) == 0
        for step in range(8)
        for p in augment(Event(0, EventId(0, 0, 0), SHAPE, (empty,) * 3), step).planes
    )


def test_a_beam_mirror_needs_three_planes():
    with pytest.raises(UserError, match="--augment: beam-mirror is for images of three wire planes, and these have 2"):
        Augmentation(("beam-mirror",), seed=0, planes=2)
