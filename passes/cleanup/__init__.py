"""Passes that keep the function and shrink the graph."""
