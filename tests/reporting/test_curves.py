import numpy as np
from matplotlib.image import imread

from cosmictagger.reporting.curves import draw_curves
from cosmictagger.reporting.metrics_log import MetricsLog, metrics_path


def write_training(directory, steps):
    log = MetricsLog(directory)
    for step in range(1, steps + 1):
        values = {"loss": 1 / step, "learning_rate": 3e-4, "accuracy": 0.9, "cosmic_iou": float("nan")}
        log.write(step, "train", values)
        if step % 10 == 0:
            log.write(step, "validation", {"loss": 2 / step, "accuracy": 0.8, "cosmic_iou": 0.5})
    log.close()


def test_there_is_a_panel_for_each_kind_of_value(tmp_path):
    write_training(tmp_path, 100)
    path = tmp_path / "curves.png"
    assert draw_curves(metrics_path(tmp_path), path)
    picture = imread(path)
    assert picture.shape[0] == round((4 * 2.7 + 0.5) * 110)
    assert np.unique(picture[..., :3].reshape(-1, 3), axis=0).shape[0] > 10


def test_a_single_step_is_drawn(tmp_path):
    write_training(tmp_path, 1)
    assert draw_curves(metrics_path(tmp_path), tmp_path / "curves.png")


def test_nothing_is_drawn_without_steps(tmp_path):
    assert not draw_curves(metrics_path(tmp_path), tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []
