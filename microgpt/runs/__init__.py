"""The directory of a run: its files, checkpoints and metrics; how a run is tracked, and opened again."""
