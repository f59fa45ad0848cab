"""Training: optimizers and schedules, the loop, ranks, and a run from its start to its last file."""
