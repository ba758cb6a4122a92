"""Checks and services around a run: self-test, acceptance, reproduction, Kaggle."""
