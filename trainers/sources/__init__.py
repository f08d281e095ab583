"""Where rows of a training set come from: one module for each kind of source."""
