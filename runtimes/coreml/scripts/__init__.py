"""Programs for a Mac, sent to its Python as text; nothing here is imported by edgevlm."""
