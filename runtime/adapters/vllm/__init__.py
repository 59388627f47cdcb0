"""Draft trees inside stock vLLM: a worker class, an attention backend, proposers, and no change to vLLM itself."""
