"""The served model: an OpenAI-compatible front that sends token ids to llama.cpp, and a chat in the terminal on the same engine."""
