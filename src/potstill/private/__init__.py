"""Distilled sets with formal privacy: real data are seen only as clipped sums with noise, under one budget."""
