"""Tag every pixel of liquid-argon TPC images as background, cosmic ray or neutrino."""

__version__ = "0.1.0"
