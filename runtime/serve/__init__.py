"""OpenAI text completions over HTTP."""
