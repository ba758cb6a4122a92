"""Physical rules of spectra, as a loss and as an audit."""
