"""Sweeps: the Hydra callback, the jobs as read from their directories, the summary and the report."""
