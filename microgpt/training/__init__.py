"""Training: optimizers, learning-rate schedules, the training loop, ranks, and a run in its directory."""
