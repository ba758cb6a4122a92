"""Plots for notebooks and papers."""
