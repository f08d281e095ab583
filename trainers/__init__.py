"""Trainers: training sets from failing slices, training methods, merging and the gate's decision."""
