"""N-grams of a text and of a datastore as drafters."""
