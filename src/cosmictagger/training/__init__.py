"""One training step and what it is made of: loss, optimizer, schedule, precision, checkpoints."""
