"""Self-labels: every cell a class of its own, its augmented copies the examples.

Yao, Rochman and Sun (2019), Fig. 5: the network learns what tells cells apart before anybody says
what they are; its latent cell activations are then clustered into phenotypes.
"""
