"""One TOML file a device; code only loads and validates them."""
