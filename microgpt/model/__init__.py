"""The transformer, generation from it, and its evaluation. No I/O."""
