"""The IR, the contract, the axis analysis, verification and the bundle."""
