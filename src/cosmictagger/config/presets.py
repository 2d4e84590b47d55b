"""Networks that the field knows by name, and the one that comes with the program, as data."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "a21": {
        "n_initial_filters": 8,
        "growth_rate": "linear",
        "network_depth": 6,
        "res_blocks_per_layer": 2,
        "res_blocks_deepest_layer": 5,
        "res_blocks_final": 0,
        "residual": False,
        "connections": "sum",
        "norm_statistics": "batch",
        "downsampling": "max_pooling",
        "upsampling": "interpolation",
        "bottleneck_size": 256,
        "filter_size_deepest": 5,
    },
    "uresnet": {
        "n_initial_filters": 16,
        "growth_rate": "linear",
        "network_depth": 6,
        "res_blocks_per_layer": 2,
        "res_blocks_deepest_layer": 5,
        "res_blocks_final": 5,
        "residual": True,
        "connections": "concat",
        "norm_statistics": "batch",
        "bottleneck_size": 256,
        "filter_size_deepest": 5,
    },
    "polaris": {
        "n_initial_filters": 8,
        "growth_rate": "linear",
        "network_depth": 7,
        "res_blocks_per_layer": 2,
        "res_blocks_deepest_layer": 2,
        "res_blocks_final": 2,
        "residual": False,
        "connections": "sum",
        "norm_statistics": "batch",
        "bottleneck_size": 96,
    },
    "original": {
        "n_initial_filters": 12,
        "growth_rate": "multiplicative",
        "network_depth": 5,
        "res_blocks_per_layer": 2,
        "res_blocks_deepest_layer": 4,
        "res_blocks_final": 2,
        "residual": True,
        "connections": "sum",
        "norm_statistics": "batch",
    },
}
# That of training/pretrained.pt, which is sparse.
PRESETS["tagger"] = {
    "network_depth": 7,
    "res_blocks_per_layer": 1,
    "res_blocks_deepest_layer": 3,
    "res_blocks_final": 0,
    "bottleneck_size": 96,
    "filter_size_deepest": 5,
    "exchange_levels": 5,
    "doubled_levels": 3,
    "crossing_levels": (1, 2, 3, 4),
    "supervised_levels": (2, 3, 4, 5, 6),
}
PRESETS["scc21"] = PRESETS["uresnet"] | {"batch_norm": False}
