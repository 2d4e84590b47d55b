"""Settings of a run: frozen dataclasses, presets, and their resolution from flags and YAML."""
