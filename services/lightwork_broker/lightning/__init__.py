"""Lightning behind narrow ports: what the broker may ask of its node, and in which words."""
