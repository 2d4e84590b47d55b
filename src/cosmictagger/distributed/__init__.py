"""Strategies for one rank or many behind the same small interfaces."""
