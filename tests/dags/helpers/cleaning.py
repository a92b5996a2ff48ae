"""A helper module of the DAG folder: no Ray worker has it installed."""


class Cleaner:
    def __init__(self, unwanted):
        self.unwanted = unwanted

    def clean(self, values):
        return [value for value in values if value != self.unwanted]
