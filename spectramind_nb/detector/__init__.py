"""From raw frames to light curves: the raw format, detector corrections and photometry."""
