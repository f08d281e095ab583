"""Failure slices: where a model fails more than elsewhere, found on one half of the items, confirmed on the other."""
