"""Draft heads on the target's hidden states: EAGLE-3 and Medusa."""
