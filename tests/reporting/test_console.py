import io
import os
import re
import subprocess
import sys

import pytest

from cosmictagger.config.resolve import resolve
from cosmictagger.errors import UserError
from cosmictagger.reporting.console import Console, plain_table


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def err():
    return io.StringIO()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def logged(tmp_path):
    """Return the lines of the log without their times."""
    return [line[21:] for line in (tmp_path / "log.txt").read_text().splitlines()]


@pytest.mark.parametrize(("verbosity", "words"), [(0, "r"), (1, "ri"), (2, "rid")])
def test_verbosity_chooses_what_is_said_but_not_what_is_logged(verbosity, words, out, err, tmp_path):
    with Console(verbosity, stdout=out, stderr=err) as console:
        console.open_log(tmp_path)
        console.result("r")
        console.info("i")
        console.detail("d")
    assert out.getvalue() == "".join(f"{word}\n" for word in words)
    assert logged(tmp_path) == ["r", "i", "d"]


def test_only_rank_0_speaks(out, err, tmp_path):
    with Console(2, is_root=False, stdout=out, stderr=err) as console:
        console.open_log(tmp_path)
        console.begin_steps(0, 1)
        console.step_line(1, {"loss": 1.0})
        console.result("r")
        console.table("t", ["a"], [["b"]])
        console.configuration(resolve({}))
        console.warning("w")
        console.error("e")
    assert out.getvalue() == err.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


def test_any_rank_may_name_itself_in_an_error(out, err):
    Console(0, is_root=False, stdout=out, stderr=err).error("file missing", rank=5)
    assert err.getvalue() == "[rank 5] error: file missing\n"


def test_errors_and_warnings_go_to_stderr_and_the_log(out, err, tmp_path):
    with Console(0, stdout=out, stderr=err) as console:
        console.open_log(tmp_path)
        console.warning("w")
        console.error("e")
    assert (out.getvalue(), err.getvalue()) == ("", "warning: w\nerror: e\n")
    assert logged(tmp_path) == ["warning: w", "error: e"]


def test_steps_are_plain_lines_in_a_pipe(out, err, clock):
    with Console(1, stdout=out, stderr=err, now=clock) as console:
        console.begin_steps(10, 20)
        clock.pass_(6.0)
        console.step_line(12, {"loss": 0.25, "cosmic_iou": 0.5}, 12.0)
    assert out.getvalue() == "step 12/20  loss 0.2500  cosmic_iou 0.5000  12.00 images/s  ETA 0:24\n"


def test_steps_overwrite_each_other_on_a_terminal_and_are_all_logged(terminal, err, tmp_path):
    with Console(1, stdout=terminal, stderr=err) as console:
        console.open_log(tmp_path)
        console.begin_steps(0, 3)
        console.step_line(1, {"loss": 0.5}, 2.0)
        console.info("validating")
        console.step_line(2, {"loss": 0.25}, 2.0)
    text = terminal.getvalue()
    assert "step 2/3" in text and "loss 0.2500" in text
    assert "\x1b[2K" in text  # erase the line
    assert text.count("validating") == 1
    assert [line.split("  ")[0] for line in logged(tmp_path)] == ["step 1/3", "validating", "step 2/3"]


def test_square_brackets_are_no_markup_on_a_terminal(terminal, err):
    with Console(1, stdout=terminal, stderr=err) as console:
        console.begin_steps(0, 3)
        console.info("kernel [1,3,3] [bold]x[/bold] [/]")
        console.table("[red]", ["[a]"], [["[b]"]])
    assert "kernel [1,3,3] [bold]x[/bold] [/]" in terminal.getvalue()
    assert "[b]" in terminal.getvalue()


def test_a_dumb_terminal_gets_plain_lines(monkeypatch, err):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Console(1, stdout=stream, stderr=err) as console:
        console.begin_steps(0, 3)
        console.step_line(1, {"loss": 0.5})
    assert stream.getvalue().startswith("step 1/3  loss 0.5000")


def test_figures_of_merit_have_a_form_that_scripts_match(out, err):
    Console(0, stdout=out, stderr=err).figures_of_merit(123.4, 8)
    assert out.getvalue() == "Total img/sec on 8 rank(s): 123.4\nImg/sec per rank: 15.43\n"
    assert float(re.search(r"Total img/sec on (\d+) rank\(s\): (\S+)", out.getvalue())[2]) == 123.4


def test_the_configuration_is_yaml_in_a_pipe(out, err, tmp_path):
    path = tmp_path / "config.yaml"
    config = resolve({"network_depth": 3})
    Console(1, stdout=out, stderr=err).configuration(config)
    path.write_text(out.getvalue())
    assert resolve({}, str(path)) == config


def test_the_configuration_is_a_table_on_a_terminal_that_marks_what_was_changed(terminal, err):
    Console(1, stdout=terminal, stderr=err).configuration(resolve({"network_depth": 3, "file": ("a.h5",)}))
    lines = terminal.getvalue().splitlines()
    (changed,) = [line for line in lines if "network_depth" in line]
    assert re.search(r"network_depth +\x1b\[1;33m3 ", changed)
    (same,) = [line for line in lines if "res_blocks_final" in line]
    assert "\x1b[1;33m" not in same
    assert "\x1b[1;33ma.h5 " in terminal.getvalue()


def test_metrics_are_shown_by_plane(out, err):
    Console(0, stdout=out, stderr=err).metrics_table(
        "validation",
        {"cosmic_iou": 0.5, "accuracy": 1.0},
        [{"cosmic_iou": 0.25, "accuracy": 1.0}, {"cosmic_iou": None}],
    )
    assert out.getvalue() == (
        "validation\n"
        "  metric      plane 0  plane 1  average\n"
        "  cosmic_iou   0.2500        -   0.5000\n"
        "  accuracy     1.0000        -   1.0000\n"
    )


def test_a_table_without_rows_has_its_heads():
    assert plain_table("none", ["a", "bc"], []) == "none\n  a  bc"


def test_characters_that_the_stream_lacks_do_not_silence_it(err):
    raw = io.BytesIO()
    console = Console(1, stdout=io.TextIOWrapper(raw, encoding="ascii"), stderr=err)
    console.info("3×3")
    console.info("next")
    assert raw.getvalue() == b"3?3\nnext\n"


def test_a_closed_stdout_does_not_end_the_run(out, err, tmp_path):
    with Console(1, stdout=out, stderr=err) as console:
        console.open_log(tmp_path)
        out.close()
        console.info("one")
        console.result("two")
    assert logged(tmp_path) == ["one", "two"]


def test_a_log_file_that_cannot_be_opened_is_a_user_error(out, err, tmp_path):
    with pytest.raises(UserError, match=r"cannot write '.*log\.txt': No such file"):
        Console(1, stdout=out, stderr=err).open_log(tmp_path / "missing")


@pytest.mark.parametrize("start", ["", "exec 1>&-; "], ids=["reader gone", "stdout closed"])
def test_a_process_whose_output_nobody_reads_ends_well(start):
    code = (
        "from cosmictagger.reporting.console import Console\n"
        "console = Console(1)\n"
        "for n in range(2000): console.info('x' * 100)\n"
        "console.error('done')\n"
    )
    read, write = os.pipe()
    os.close(read)
    command = ["sh", "-c", f'{start}exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "error: done\n")
