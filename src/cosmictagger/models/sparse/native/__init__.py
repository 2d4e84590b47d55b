"""Compiled kernels: a C++ source without dependencies, compiled at first use and called by ctypes."""
