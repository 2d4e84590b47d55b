"""The dense vocabulary: features are tensors over every pixel."""
