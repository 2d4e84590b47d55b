"""The sparse vocabulary: features are values at the active sites, computed by one of several engines."""
