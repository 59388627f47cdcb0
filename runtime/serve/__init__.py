"""OpenAI completions and chats over HTTP."""
