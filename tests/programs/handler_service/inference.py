"""A service for multi-model-server, which is no functions."""


class Service:
    def initialize(self, context):
        self.model_dir = context.system_properties.get("model_dir")

    def handle(self, data, context):
        return [request.get("body") for request in data]


def handle(data, context):
    return Service().handle(data, context)
