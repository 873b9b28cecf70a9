"""Networks tested on flasks that hold two cell lines, one of them with fluorescent nuclei."""
