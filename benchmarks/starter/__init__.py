"""The starter suite: twelve small tasks that evalkit writes itself, for a first look at any model, offline."""
