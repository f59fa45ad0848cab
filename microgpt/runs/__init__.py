"""The run directory: its files, checkpoints and metrics; the tracker that writes it, and functions that open it."""
