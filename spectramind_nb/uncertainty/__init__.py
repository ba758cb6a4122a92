"""Calibrated error bars."""
