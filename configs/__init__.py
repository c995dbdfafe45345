"""Configurations, one YAML per job and scale; `fld init` writes a copy of one."""
