"""Posterior of an atmosphere's parameters, under the chemistry of the simulator."""
