"""Corpora: download, readers, the training and validation split, tokens, rows and batches."""
