"""One notebook entry a flask session: what a biologist would write down, with evidence."""
