"""OpenAI's form of asking: `/v1/models` and `/v1/chat/completions`. Each column is a model."""
