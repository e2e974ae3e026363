"""The vocabulary of the product: types, ports, errors, settings and the catalogue. Imports nothing of ours."""
