"""Adapters: guests in the decode loops of other libraries."""
