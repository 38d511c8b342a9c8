"""Passes that drop image tokens under a static budget."""
