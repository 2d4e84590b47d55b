import dataclasses

import numpy as np

from cosmictagger.config.sections import NetworkConfig, TrainingConfig
from cosmictagger.training.checkpoints import Checkpoint, random_state

INPUTS = {"nplanes": 3, "downsample": 1, "shape": (640, 1024), "input_transform": "log", "zero_suppression": 0.0}


def make(step, module=None, optimizer=None, **changes):
    settings = {
        "step": step,
        "model": module.state_dict() if module else {},
        "optimizer": optimizer.state_dict() if optimizer else {},
        "scaler": {"scale": 1.0},
        "network": dataclasses.asdict(NetworkConfig()),
        "inputs": INPUTS,
        "training": dataclasses.asdict(TrainingConfig()),
        "sampler": {"step": step, "seed": 7, "images_per_step": 2},
        "random": random_state(),
        "metrics": {"mean_iou": np.float64(0.5)},
    }
    return Checkpoint(**settings | changes)
