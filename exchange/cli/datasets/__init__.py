"""Datasets: described, reviewed, published, found."""
