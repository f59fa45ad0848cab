"""Measurements of a model besides its loss: n-gram baselines, novelty, diagnostics, attention, scores of texts."""
