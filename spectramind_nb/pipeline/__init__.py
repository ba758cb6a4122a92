"""Configuration, stages, provenance and the chain that runs the notebooks."""
