"""Passes that keep the function and leave what micro NPUs run well: few axes, no index."""
