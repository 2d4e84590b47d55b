"""Accuracy and intersection over union, exact over ranks: everything derives from confusion counts."""
