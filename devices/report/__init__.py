"""One HTML page of what is known about bundles: plain data in, bytes out; nothing is measured."""
