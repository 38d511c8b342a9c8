"""Pieces that methods share: scores, kernels, selectors, mergers. Each works on any view."""
