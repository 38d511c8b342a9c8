"""Builds the engines of this bundle; --help says more."""

import pathlib
import sys

here = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # a bundle stays what it was
sys.path.insert(0, str(here / "device"))
from edgevlm.runtimes.tensorrt.on_device.build_main import main  # noqa: E402

sys.exit(main(bundle=here))
