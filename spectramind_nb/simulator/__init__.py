"""Simulated planets, spectra, light curves and detector frames."""
