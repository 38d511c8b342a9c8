"""edgevlm compiles a vision-language model for one named edge device, proves it and measures it."""

__version__ = "0.1.0"
