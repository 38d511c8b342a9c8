"""Passes that make numbers coarser."""
