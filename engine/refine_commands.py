"""`fld train`, `fld model`, `fld refine` and `fld rounds`: from a config to the work and its words."""
