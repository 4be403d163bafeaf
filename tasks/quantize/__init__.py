"""Stage quantize: GGUF and int8 exports, checked against the model."""
