"""Which numbers a target multiplies with."""
