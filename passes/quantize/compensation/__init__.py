"""Weights chosen so that what comes out of a layer errs least, not the weights themselves."""
