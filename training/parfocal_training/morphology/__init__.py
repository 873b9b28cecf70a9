"""What cells look like in numbers: CellProfiler's features, and which of them tell clusters apart.

Yao, Rochman and Sun (2019), Fig. 5h: the features of two clusters ranked by the Jensen-Shannon
distance of their distributions, and the cells projected onto two of them. Each file of features
computes one of CellProfiler's modules for a single cell, with the definitions and names of
cp_measure 0.3.0, against whose answers `tests/test_morphology.py` holds them; `skeleton`, which
cp_measure lacks, has names of its own.
"""
