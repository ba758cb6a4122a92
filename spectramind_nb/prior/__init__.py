"""What is known of spectra before any light curve is fitted."""
