import dataclasses

import pytest

from cosmictagger.config.options import options_of
from cosmictagger.errors import UserError
from cosmictagger.simulate.detector import Detector


def test_yaml_round_trip(tmp_path):
    path = tmp_path / "detector.yaml"
    detector = Detector(wire_pitch=0.5, gain=(1.0, 2.0, 3.0), n_wires=2048)
    path.write_text(detector.to_yaml())
    assert Detector.from_yaml(path) == detector


def test_every_constant_is_documented():
    assert [item.key for item in options_of(Detector) if len(item.help) < 15] == []


def test_an_empty_file_is_the_default(tmp_path):
    path = tmp_path / "detector.yaml"
    path.write_text("")
    assert Detector.from_yaml(path) == Detector()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wire_pich: 0.3", "did you mean 'wire_pitch'"),
        ("wire_pitch: wide", "is not a number"),
        ("wire_pitch: -1", "too small"),
        ("gain: [1, 2]", "takes 3 values"),
        ("n_ticks: 1279", "is odd"),
        ("- 1", "must hold keys and values"),
        ("a: [", "is not YAML"),
        ("wire_last: [31, 31, 5000]", "outside an image"),
        ("muon_momentum_min: 2000", "must lie below"),
        ("beam_window: [3, 1]", "starts after it ends"),
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "detector.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        Detector.from_yaml(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        Detector.from_yaml(tmp_path / "nowhere.yaml")


def test_wire_axes_are_those_of_the_real_files():
    detector = Detector()
    y, z = 40.0, 300.0
    wires = [a * y + b * z + c for a, b, c in (detector.wire_axis(plane) for plane in range(3))]
    assert wires == pytest.approx(
        [
            (z * 0.5 + (200 - y) * 0.8660254) / 0.3 + 31,
            (z * 0.5 + (200 + y) * 0.8660254) / 0.3 + 31,
            z / 0.3 + 192,
        ]
    )


def test_constants_never_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Detector().wire_pitch = 1.0
