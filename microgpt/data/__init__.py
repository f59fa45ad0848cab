"""Corpora: fetched, read, split once, turned into tokens, rows and batches."""
