"""Transit light curves: model, limb darkening, systematics, fit and injection."""
