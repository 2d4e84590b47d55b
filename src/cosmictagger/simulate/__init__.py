"""A fast simulation of a surface liquid-argon detector: events that a network can learn from."""
