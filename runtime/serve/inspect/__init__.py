"""`/inspect`: a page that shows one generation step by step."""
