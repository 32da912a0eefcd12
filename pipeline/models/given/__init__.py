"""Classifiers that others made: built by name, weights read without running code, wrapped to answer as a network of ours."""
