"""Figures and tables in one style. Imports no torch."""
