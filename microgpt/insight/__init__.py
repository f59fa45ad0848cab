"""What is measured of a model beside its loss: n-gram baselines, novelty, diagnostics, attention, scores of texts."""
