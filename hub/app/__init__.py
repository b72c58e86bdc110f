"""Wiring, command line, scheduled jobs. The only place that knows all the others."""
