"""Morphological phenotypes: clusters of cells by their latent cell activations (LCA).

Yao, Rochman and Sun (2019), Fig. 5: each cell is the mean LCA of its augmented copies, and k-means
finds the phenotypes. What is shipped assigns a cell by the LCA of its crop as imaged, because live
there is no more than that; centroids and limits are therefore measured on such LCAs.
"""
