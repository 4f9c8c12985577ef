"""A client's models behind an HTTP endpoint in the form of OpenAI's chat completions (docs/serve.md)."""
