"""SageMaker's own request documents: read, validated and answered in the service's words."""
