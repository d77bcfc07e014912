"""Whole ensembles of real processes under faults: what simulation cannot show."""
