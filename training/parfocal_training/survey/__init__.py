"""Expert survey: people are asked what the network is asked, and scored beside it."""
