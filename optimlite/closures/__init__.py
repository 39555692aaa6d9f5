"""Methods that evaluate the model several times in a step: a method makes directions, a line search says how far."""
