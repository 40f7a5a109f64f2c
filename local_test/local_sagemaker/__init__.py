"""SageMaker's training and hosting contract, on one machine."""
