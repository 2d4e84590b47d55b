"""iotest: the loader of train, timed alone."""

import re

from .conftest import results


def test_iotest_reports_rates_bytes_and_waiting(run, tmp_path, capsys, events_file):
    assert run("iotest", "-i", 12, "-mb", 5, network=False) == 0
    found = results(tmp_path / "log")
    assert found["mode"] == "iotest"
    assert found["throughput"]["images"] == 50
    assert found["throughput"]["images_per_second"] > 0
    assert 0 <= found["io"]["wait_fraction"] <= 1
    # Every event was read twelve times: at least its compressed pixels, and at most all of the file.
    assert 12 * 1000 < found["io"]["bytes_read"] <= 12 * 5 * events_file.stat().st_size
    out = capsys.readouterr().out
    assert re.search(r"Read \d+\.\d+ MB/s from the files", out)
    assert re.search(r"Waited \d+\.\d+ s in 10 timed steps", out)
    assert "Total img/sec on 1 rank(s): " in out


def test_iotest_needs_no_labels(run, tmp_path, unlabelled_file):
    assert run("iotest", "-i", 4, "--label-producer", "none", file=unlabelled_file, network=False) == 0
    assert results(tmp_path / "log")["throughput"]["images"] == 4
