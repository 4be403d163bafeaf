"""MLflow: a stage writes down what it has to say, one process sends it."""
