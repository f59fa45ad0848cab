"""Sweeps: the callback inside Hydra, the jobs as their directories show them, the summary and the report."""
