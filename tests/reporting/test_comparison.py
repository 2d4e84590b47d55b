import pytest

from cosmictagger.errors import UserError
from cosmictagger.reporting.comparison import match_events, write_comparison
from cosmictagger.simulate.neutrino import Mix
from cosmictagger.simulate.reader import SimulatedReader

NEUTRINOS = Mix(nue_cc=1, numu_cc=1, nc=0, cosmic=0)


def test_the_page_needs_no_other_file(tmp_path):
    simulated = SimulatedReader(4, 1, downsample=2, mix=NEUTRINOS)
    reference = SimulatedReader(2, 2, downsample=2, mix=NEUTRINOS)
    path = tmp_path / "comparison.html"
    rows = write_comparison(path, simulated, reference, energy=(0.0, 9.0), pictures=1, command="make it")
    page = path.read_text()
    assert len(rows) == 18
    assert page.count("data:image/png;base64,") == 3
    assert "src='http" not in page
    assert "make it" in page
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_what_disagrees_is_marked(tmp_path):
    quiet, busy = (
        SimulatedReader(2, 1, downsample=2, mix=mix) for mix in (NEUTRINOS, Mix(nue_cc=0, numu_cc=0, nc=0, cosmic=1))
    )
    write_comparison(tmp_path / "page.html", quiet, busy, pictures=0)
    assert "beyond a factor 1.5" in (tmp_path / "page.html").read_text()


def test_pairs_are_alike():
    simulated, reference = SimulatedReader(12, 1, mix=NEUTRINOS), SimulatedReader(2, 1, mix=NEUTRINOS)
    assert match_events(simulated, reference, 2) == [(0, 0), (1, 1)]


def test_an_unwritable_page_is_refused(tmp_path):
    reader = SimulatedReader(1, 1, downsample=3)
    with pytest.raises(UserError, match="cannot write"):
        write_comparison(tmp_path / "nowhere" / "page.html", reader, reader, pictures=0)
