"""What every part of the package builds on: wavelengths, the metric, file formats, versions and progress."""
