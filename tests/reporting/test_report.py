import base64
import re

import pytest

from cosmictagger.errors import UserError
from cosmictagger.reporting.displays import display_path, draw_event
from cosmictagger.reporting.metrics_log import MetricsLog
from cosmictagger.reporting.report import write_report
from cosmictagger.reporting.results import Metrics, write_results


def test_a_report_holds_figures_tables_and_pictures_in_one_file(tmp_path, results, event):
    write_results(tmp_path, results)
    log = MetricsLog(tmp_path)
    log.write(1, "train", {"loss": 0.5})
    log.close()
    draw_event(display_path(tmp_path, 7), event)
    page = write_report(tmp_path).read_text()
    assert "<b>2.000</b>images/s, all ranks" in page
    assert "<td>cosmic IoU</td><td>0.8000</td><td>-</td><td>0.8000</td>" in page
    assert "<td>forward</td><td>2</td><td>1.5000</td><td>1.5000</td><td>3.0000</td><td>75.0 %</td>" in page
    assert "learning_rate: 0.0003" in page
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert pictures == [(tmp_path / "curves.png").read_bytes(), display_path(tmp_path, 7).read_bytes()]
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_a_failed_run_says_why_and_is_escaped(tmp_path, make_results):
    nothing = dict.fromkeys(("model", "throughput", "timing", "io", "memory", "checkpoint"))
    write_results(tmp_path, make_results(status="failed", reason="<b>&", metrics=Metrics(), **nothing))
    page = write_report(tmp_path).read_text()
    assert '<p class="bad">failed: &lt;b&gt;&amp;</p>' in page


def test_a_report_without_results_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        write_report(tmp_path)
